"""The keys of a used store are those that docs/how-it-works.md lists, no more and no less."""

from __future__ import annotations

import importlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.alerts.board import Board, Memory, Notification, silence
from gateway.alerts.decide import Alert, Found, Silence
from gateway.limits import peers
from gateway.limits.applicable import Limits, Subject, Ticket
from gateway.limits.charges import Charges
from gateway.limits.limiter import Limiter
from gateway.limits.local import LocalBuckets
from gateway.outbox.receipts import MessageIds
from gateway.outbox.results import Promised, Results
from gateway.workers.send_records import SendRecords
from gateway.workers.target import Target
from relay import presence
from relay.circuit import Circuit, Report
from relay.policies import CircuitPolicy
from relay.queue import endpoints
from relay.queue.codec import DelayedBy, GoesFirst, Superseding
from relay.queue.dead_letters import DeadLetters
from relay.queue.inbox import Inbox
from relay.queue.queue import Queue, Settlement
from sessions import divided
from sessions.lifecycle.election import SCALER, WATCHER, Election
from sessions.profiles import migrated, troubles
from sessions.profiles.contents import InStore, Manifests
from sessions.profiles.generations import Generations
from sessions.profiles.migrated import Entry
from sessions.registry import ObservedSession, Registry, Worker
from sessions.watched import Seen
from sessions.worker.browser.passed_on import PassedOn
from sessions.worker.ids import SentIds
from sluice.history.charted import Series
from sluice.history.rings import Value, note
from sluice.store import clock, layout, restoring
from sluice.store.client import Store
from tests.gateway.making import HOURLY, a_client, a_limit
from tests.relay.making import accept, event
from tests.waiting import until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
CHANNEL = "channel "
NAME = r"[^:{}\0]+"
PLACEHOLDERS = {"<nn>": r"\d\d", "<slot>": "[^{}]+", "<subjects>": r"(\0[^\0]+)*"}


@dataclass(frozen=True)
class Row:
    pattern: str
    owner: str
    is_channel: bool

    def matches(self, name: str) -> bool:
        parts = re.split("(<[a-z]+>)", self.pattern)
        regex = "".join(PLACEHOLDERS.get(part, NAME) if part[:1] == "<" else re.escape(part) for part in parts)
        return re.fullmatch(regex, name) is not None


def documented() -> list[Row]:
    section = (ROOT / "docs/how-it-works.md").read_text().partition("\n## Keys in the store\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "`sl:" in line]
    rows = []
    for keys, owner, _ in cells:
        rows.append(Row(keys.removeprefix(CHANNEL).strip("`"), owner.strip("`"), keys.startswith(CHANNEL)))
    return rows


def owned(constant: str) -> dict[str, list[str]]:
    """What each module says in its own words that it owns."""
    found = {}
    for room in ("gateway", "relay", "sessions", "sluice"):
        for file in sorted((ROOT / room).rglob("*.py")):
            if f"\n{constant} = " in file.read_text():
                name = str(file.relative_to(ROOT))
                module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
                found[name] = sorted(getattr(module, constant))
    return found


@dataclass(frozen=True)
class Use:
    """A store in use, and the keys that were seen in it."""

    store: Store
    seen: set[str]

    async def look(self) -> None:
        (keys,) = await self.store.commands(("KEYS", "*"))
        self.seen.update(key.decode() for key in keys)


async def use_queues(use: Use) -> None:
    inbox = Inbox(use.store)
    one, other = (
        Queue(use.store, name, lease=30.0, max_bytes=10**6, max_events=100, keep_bodies=True)
        for name in ("laravel", "warehouse")
    )

    async def poll(*settled: Settlement) -> list[Settlement]:
        one.look_everywhere()
        leased = (await one.poll(settled, 100)).leased
        await use.look()
        return [Settlement(delivery, "delivered", 0, "200 1") for delivery in leased]

    announcing = event("a", lane="urgent", coalesce_key="typing", goes_first=GoesFirst("after", 0.001))
    await inbox.accept(announcing, [one.destination, other.destination])
    await inbox.accept(event("a", lane="normal", fence=1), [one.destination])
    await inbox.accept(event("b", delay=60.0, delayed_by=DelayedBy("send", 60.0, 1)), [one.destination])
    await inbox.accept(event("a", lane="bulk", superseding=Superseding("a phone")), [one.destination])
    await inbox.accept(event("a"), [other.destination, replace(one.destination, max_events=1)])
    await use.look()
    delivered, failed, rejected = await poll()
    await poll(
        delivered,
        Settlement(failed.delivery, "retry", 0, "500 1 answered 500"),
        Settlement(rejected.delivery, "dead", "answered 422", "422 1 answered 422"),
    )
    letters = DeadLetters(use.store, "laravel")
    await letters.replay([letter async for letter in letters.all()])
    await poll(*await poll())


async def use_restoring(use: Use) -> None:
    assert await restoring.begin(use.store) == "first"
    await use.look()
    await restoring.end(use.store)


async def use_endpoints(use: Use) -> None:
    await endpoints.search(use.store)
    await use.look()


async def use_circuit(use: Use) -> None:
    policy = CircuitPolicy(window=30, minimum=10, ratio=0.5, open=0.1, cap=0.3, probes=3)
    circuit = Circuit(use.store, "laravel", policy, None, probe_lease=1.0)
    generation = (await circuit.admit(1)).generation
    await circuit.admit(1, [(generation, Report(failures=10, why="answered 500"))])
    await presence.report(use.store, "host:1")
    await clock.note_jump(use.store, -600.0)
    await use.look()


async def use_limits(use: Use) -> None:
    limiter, limit = Limiter(use.store), a_limit("send", rate=HOURLY, per=("session", "ip"))
    subject = Subject(a_client("2001:db8::7"), "send", "s{1}:x", relayed=False)
    for spread in (False, True):
        buckets = Limits([limit], {}, spread=spread).buckets(subject)
        await limiter.take(buckets)
        held = replace(limit, over="hold")
        for bucket in Limits([held], {}, spread=spread).buckets(subject):
            await limiter.take([replace(bucket, ticket=Ticket("a", time.monotonic()))])
        local = LocalBuckets()
        local.take(buckets, time.monotonic())
        await Charges(use.store, local).send()
    await peers.run_once(use.store, "gateway-1", limiter)
    await use.look()


async def use_sends(use: Use) -> None:
    await SendRecords(use.store, "gateway-1").begin("0a1b", "1")
    await Results(use.store, "gateway-1").promise("evt_1")
    ids = MessageIds(use.store)
    await ids.promised(Promised("evt_1", "s", "w1", b'{"message_id": "true_1"}'))
    await ids.begun("evt_2", "s", Target("w1", "http://127.0.0.1:1"))
    await use.look()


async def use_worker(use: Use) -> None:
    await SentIds(use.store).note("s", "true_49@c.us_1", "evt_1")
    PassedOn(use.store, "s").note()
    await until(PassedOn(use.store, "s").until)
    await use.look()


async def use_history(use: Use) -> None:
    await use.store.run_all([note("gateway-1", 1, 0.0, [Value("sum", Series("requests", "", "2xx"), 1)])])
    await use.look()


async def use_alerts(use: Use) -> None:
    board = Board(use.store, "gateway-1", "web-1")
    reading = await board.read(60.0, 0)
    notified = Notification(1e9, "chat", "firing", "circuit_open", "laravel", "it is open")
    alert = Alert("circuit_open", "laravel", "it is open", 1e9, fires=True, machine="web-1")
    await board.keep(reading.revision, Memory({alert.key: alert}).encode(), [notified])
    await board.report([Found("store_nearly_full", "disk", "it is full", 0.9, "web-1")])
    await silence(use.store, "circuit_open", "*", Silence("circuit_open", "*", 4e9))
    await use.look()


async def use_vault(use: Use) -> None:
    await troubles.note(use.store, "save", "a", "the disk is full")
    generations = Generations(use.store)
    await generations.claim("a")
    await Manifests(use.store).put("a", 1, b"sealed")
    await InStore(use.store).put("a", 1, "0" * 32, b"sealed")
    await migrated.note(use.store, Entry("a", "/srv/session-a", "host", time.time()))
    await use.look()
    await generations.delete("a", None)
    await generations.forget("a")
    await use.look()


async def use_sessions(use: Use) -> None:
    registry = Registry(use.store, 60.0)
    await registry.register(Worker("a", "1", "http://a:3000", 10))
    await registry.assign({"waits": ("b", {})})
    await registry.starts("b")
    await registry.want({"s": {}})
    await use.look()
    await registry.place_orphans()
    await registry.beat("a", "1", {}, {}, capacity=9, dropped=2)
    await use.look()
    await divided.note(use.store, "b", time.time())
    await registry.observe(Worker("b", "1", "http://b:3000", 10), {"t": ObservedSession("connected", None, {})})
    both = {name: ObservedSession("connected", "49", {}) for name in ("t", "u")}
    await registry.observe(Worker("b", "1", "http://b:3000", 10), both)
    lost = {"one": ObservedSession("connected", "62812"), "two": ObservedSession("disconnected", "62812")}
    await registry.observe(Worker("b", "1", "http://b:3000", 10), lost | {"two": ObservedSession("connected", "62812")})
    await registry.observe(Worker("b", "1", "http://b:3000", 10), lost | {"one": ObservedSession("disconnected")})
    await registry.observe(Worker("b", "1", "http://b:3000", 10), lost)
    await registry.want({"ended": {}})
    await registry.end("ended", "deleted")
    await Election(use.store, "one").win(60.0)
    await Election(use.store, "one", SCALER).win(60.0)
    await registry.note_activity(["s"], ["nowhere"])
    await Election(use.store, "one", WATCHER).win(60.0)
    await registry.see([Seen("t", 0.0, None, False)])
    row = await registry.session("t")
    assert row is not None
    await registry.unwell("t", "silent", 0.0, "it says nothing", state=row.state, as_of=row.since)
    await registry.reserve("held", {})
    await registry.want({"gone": {}})
    await registry.forget("gone")
    await use.look()
    brief = Registry(use.store, 0.001)
    await brief.register(Worker("c", "1", "http://c:3000", 10))

    async def is_lost() -> bool:
        await brief.lapse()
        await use.look()
        return "sl:{sessions}:lost" in use.seen

    await until(is_lost)
    await use.look()


@pytest.fixture
async def seen(store: Store, store_url: str) -> set[str]:
    use = Use(store, set())
    await layout.check(store_url)
    parts = (use_queues, use_endpoints, use_circuit, use_limits, use_sends, use_alerts, use_sessions, use_vault)
    for part in (*parts, use_history, use_worker, use_restoring):
        await part(use)
    return use.seen


async def test_each_key_of_a_used_store_is_in_exactly_one_row_of_the_documentation(seen: set[str]) -> None:
    rows = [row for row in documented() if not row.is_channel]
    found: Mapping[str, list[str]] = {key: [row.pattern for row in rows if row.matches(key)] for key in seen}
    assert {key: patterns for key, patterns in found.items() if len(patterns) != 1} == {}


async def test_each_documented_key_is_found_in_a_used_store(seen: set[str]) -> None:
    assert [row.pattern for row in documented() if not row.is_channel and not any(map(row.matches, seen))] == []


def test_each_module_owns_the_keys_and_channels_that_are_documented_as_its_own() -> None:
    for constant, is_channel in (("KEY_PATTERNS", False), ("CHANNEL_PATTERNS", True)):
        by_owner: dict[str, list[str]] = {}
        for row in documented():
            if row.is_channel == is_channel:
                by_owner.setdefault(row.owner, []).append(row.pattern)
        assert owned(constant) == {owner: sorted(patterns) for owner, patterns in by_owner.items()}


async def test_accepting_publishes_on_a_documented_channel(store: Store) -> None:
    heard: list[str] = []
    async with store.redis.pubsub(ignore_subscribe_messages=True) as subscriber:
        await subscriber.psubscribe("*")
        await accept(Queue(store, "laravel", lease=30.0, max_bytes=10**6, max_events=100), event())

        async def published() -> bool:
            message = await subscriber.get_message(timeout=0.1)
            heard.extend([message["channel"].decode()] if message else [])
            return bool(heard)

        await until(published)
    assert [sum(row.matches(heard[0]) for row in documented() if row.is_channel)] == [1]
