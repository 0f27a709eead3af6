from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway import metrics as edge_metrics
from gateway.policies import Policies
from gateway.resources import Resources
from relay import metrics as relay_metrics, presence
from relay.circuit import Report
from relay.process import open_circuit
from relay.queue.codec import Delivery, Event, new_id
from relay.queue.queue import Settlement
from sessions.profiles import troubles
from sessions.profiles.summary import VaultWatch
from sessions.registry import Report as Said, Worker
from sluice.console.actions.deployment import moment
from sluice.console.actions.status import show
from sluice.console.status import ShowStatus
from sluice.http.decode import encode
from sluice.http.server import metrics as server_metrics
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.relay import making
from tests.sluice.console.deployment import parts_on, policies_in

pytestmark = pytest.mark.anyio


def event(session: str, **more: object) -> Event:
    return Event(new_id(), "message_received", session, b"/hook", (), b"{}", "normal", **more)  # type: ignore[arg-type]


async def seen_of(parts: Resources) -> dict[str, Any]:
    """As it travels."""
    told: dict[str, Any] = orjson.loads(encode(await show(parts, ShowStatus())))
    return told


async def accept(parts: Resources, *sessions: str) -> None:
    for session in sessions:
        await making.accept(parts.queues["laravel"], event(session))


async def settle(parts: Resources, how: str) -> None:
    """Leases one event and ends it."""
    queue = parts.queues["laravel"]
    queue.look_everywhere()
    leased: list[Delivery] = []
    while not leased:
        leased = (await queue.poll([], 1)).leased
    (delivery,) = leased
    await queue.poll([Settlement(delivery, how, "answered 422")], 0)  # type: ignore[arg-type]


async def open_the_circuit(parts: Resources) -> None:
    circuit = open_circuit(parts.store, parts.policies.relay.endpoints["laravel"])
    generation = (await circuit.admit(1)).generation
    report = Report(failures=5, paused=True, min_pause=12, why="answered 429", statuses={429: 5})
    report.keys = dict.fromkeys(("a", "b", "c"))
    await circuit.admit(1, [(generation, report)])


async def own_sessions(parts: Resources, worker: str, *sessions: str, state: str = "connected") -> None:
    await parts.registry.register(Worker(worker, "1", "http://127.0.0.1:3101", 5))
    await parts.registry.want({session: {} for session in sessions})
    await parts.registry.place_orphans()
    held = await parts.registry.beat(worker, "1", {}, {})
    await parts.registry.beat(worker, "1", {session: Said(fence, state) for session, fence in held.items()}, {})


async def test_a_quiet_deployment_has_nothing_to_say(parts: Resources) -> None:
    await presence.report(parts.store, "relay-1")
    seen = await seen_of(parts)
    assert seen["messages"] == []
    store = seen["store"]
    assert (store["ok"], store["why"], store["appends"], store["failing"]) == (True, None, True, "")
    assert re.fullmatch(r"(valkey|redis) \d+\.\d+\.\d+", store["version"])
    assert store["memory"] > 0
    assert (seen["relays"], seen["promise"], seen["revision"]) == (1, "second", parts.policies.revision)
    assert seen["workers"] == []
    assert seen["sessions"] == {"total": 0, "connected": 0, "states": {}, "unowned": 0, "ended": 0}


async def test_an_endpoint_shows_its_queue_its_circuit_and_its_bounds(parts: Resources) -> None:
    await accept(parts, "a", "b", "c")
    await settle(parts, "delivered")
    seen = (await seen_of(parts))["endpoints"]["laravel"]
    assert seen["circuit"] == {
        "endpoint": "laravel",
        "state": "closed",
        "held": False,
        "retry_after": 0.0,
        "why": None,
        "failing_since": None,
        "failing_sessions": 0,
        "answers": [],
        "opened": 0,
        "opened_first_at": None,
        "opened_last_at": None,
    }
    assert (seen["accepted"], seen["delivered"], seen["waiting"], seen["dead"]) == (3, 1, 2, 0)
    assert (seen["rate"], seen["backlog"]) == (2.0, {"events": 1000, "bytes": 1024 * 1024})
    assert seen["bytes"] > 0


async def test_without_a_relay_it_says_that_events_wait(parts: Resources) -> None:
    assert (await seen_of(parts))["messages"] == ["no relay is running: events are accepted and wait"]


async def test_an_open_circuit_says_for_how_long_why_and_that_nothing_is_lost(parts: Resources) -> None:
    await presence.report(parts.store, "relay-1")
    await accept(parts, "a", "b")
    await open_the_circuit(parts)
    seen = await seen_of(parts)
    circuit = seen["endpoints"]["laravel"]["circuit"]
    assert (circuit["state"], circuit["why"]) == ("open", "answered 429")
    assert 11 < circuit["retry_after"] <= 12
    (sentence,) = seen["messages"]
    assert sentence == (
        "laravel: the circuit is open for 12s more (answered 429); 2 events wait, nothing is lost; nobody has got "
        "through for 0s: 429 x 5; try it now: sluice circuit probe laravel"
    )


async def test_a_dead_letter_says_how_to_find_it(parts: Resources) -> None:
    await presence.report(parts.store, "relay-1")
    await accept(parts, "a")
    await settle(parts, "dead")
    assert (await seen_of(parts))["messages"] == ["laravel: 1 dead letter waits for a person: sluice dead list"]


async def test_sessions_are_counted_by_state_and_by_having_a_worker(parts: Resources) -> None:
    await presence.report(parts.store, "relay-1")
    await own_sessions(parts, "w1", "a", "b")
    await own_sessions(parts, "w2", "c", state="qr_scanning")
    seen = await seen_of(parts)
    assert seen["sessions"] == {
        "total": 3,
        "connected": 2,
        "states": {"connected": 2, "qr_scanning": 1},
        "unowned": 0,
        "ended": 0,
    }
    first, second = seen["workers"]
    assert (first["worker"], first["url"], first["sessions"], first["capacity"]) == (
        "w1",
        "http://127.0.0.1:3101",
        2,
        5,
    )
    assert (first["existing"], first["lost"], second["sessions"]) == (False, False, 1)
    assert 0 <= first["last_beat_s"] < 2
    assert seen["messages"] == []


async def test_a_session_that_nobody_runs_is_not_connected(parts: Resources) -> None:
    await presence.report(parts.store, "relay-1")
    await own_sessions(parts, "w1", "a")
    await parts.registry.deregister("w1", "1")
    seen = await seen_of(parts)
    assert seen["sessions"] == {"total": 1, "connected": 0, "states": {"connected": 1}, "unowned": 1, "ended": 0}
    assert seen["messages"] == [
        "1 session has no worker; no worker has free capacity, start one more of yours (docs/workers.md)"
    ]


async def test_traffic_is_summed_over_routes_and_endpoints(parts: Resources) -> None:
    before = (await seen_of(parts))["traffic"]
    for route, status in (("/a", 202), ("/b", 200), ("/b", 429)):
        server_metrics.request(route, status, 0.01)
    relay_metrics.accepted("laravel", "console_test")
    relay_metrics.accepted("other", "console_test")
    relay_metrics.refused("laravel", "backlog_full")
    after = (await seen_of(parts))["traffic"]

    def more(kind: str) -> int:
        counted: int = after["requests"]["by_status"][kind] - before["requests"]["by_status"].get(kind, 0)
        return counted

    assert (more("2xx"), more("4xx")) == (2, 1)
    assert after["requests"]["total"] - before["requests"]["total"] == 3
    assert after["events"]["console_test"] == 2
    assert after["refused"]["backlog_full"] == before["refused"].get("backlog_full", 0) + 1


async def test_every_limit_of_the_policies_shows_even_before_it_has_decided(parts: Resources) -> None:
    zeros = {"allowed": 0, "delayed": 0, "held": 0, "dropped": 0, "rejected": 0, "would_reject": 0}
    limits = (await seen_of(parts))["traffic"]["limits"]
    assert limits.keys() == {"typing", "trial"}
    edge_metrics.decided("typing", "dropped")
    edge_metrics.decided("gone", "allowed")
    after = (await seen_of(parts))["traffic"]["limits"]
    assert after.keys() == {"typing", "trial"}
    assert after["typing"]["dropped"] == limits["typing"]["dropped"] + 1
    assert after["trial"].keys() == zeros.keys()


async def test_a_wrong_file_is_told_with_every_line_until_it_is_right(parts: Resources) -> None:
    file, stop = parts.policies.source, Stop()
    right = file.read_text()
    assert (await seen_of(parts))["policies"] == {
        "source": str(file),
        "loaded_at": f"{moment(parts.live.loaded_at):%Y-%m-%dT%H:%M:%S.%fZ}",
        "problems": [],
        "needs_restart": [],
    }
    file.write_text("version: 1\nlimit: []\nlisten: nowhere\n")
    await parts.live.check(stop, lambda policies: None)
    seen = await seen_of(parts)
    assert seen["revision"] == parts.policies.revision
    assert [(one["line"], one["key"]) for one in seen["policies"]["problems"]] == [(2, "limit"), (3, "listen")]
    assert seen["policies"]["problems"][0].keys() == {"line", "column", "key", "message", "hint"}
    assert any("is wrong, so revision" in sentence for sentence in seen["messages"])
    written = file.with_suffix(".new")
    written.write_text(right.replace("console: {token: env:TOKEN}", "listen: 127.0.0.1:9"))
    written.replace(file)
    await parts.live.check(stop, lambda policies: None)
    assert (await seen_of(parts))["policies"]["problems"] == []
    assert (await seen_of(parts))["policies"]["needs_restart"] == ["listen"]


async def test_a_removed_endpoint_shows_what_it_left(parts: Resources) -> None:
    await accept(parts, "a", "b")
    relay = replace(parts.policies.relay, endpoints={})
    gone = replace(parts, policies=replace(parts.policies, relay=relay), queues={})
    assert (await seen_of(gone))["removed"] == [{"endpoint": "laravel", "waiting": 2, "leased": 0, "dead": 0}]


async def test_while_the_store_is_away_it_says_so_and_shows_the_rest(policies: Policies, short_folder: Path) -> None:
    store = Store(f"unix://{short_folder}/nobody.sock", timeout=0.5)
    seen = await seen_of(parts_on(store, policies))
    await store.close()
    assert seen["store"]["ok"] is False
    assert seen["messages"] == [
        f"the store does not answer ({seen['store']['why']}): webhooks are held, then refused; nothing accepted is lost"
    ]
    laravel = seen["endpoints"]["laravel"]
    assert (laravel["circuit"], laravel["waiting"], laravel["oldest_due_s"], laravel["rate"]) == (None, None, None, 2.0)
    assert (seen["relays"], seen["workers"]) == (None, [])
    assert seen["sessions"] == {"total": None, "connected": None, "states": {}, "unowned": None, "ended": None}
    assert "requests" in seen["traffic"]


# --- the vault

VAULT = "console: {token: env:TOKEN}\nsessions: {vault: {key: 'file:key'}}\n"


def with_vault(store: Store, folder: Path, more: str = VAULT) -> tuple[Resources, VaultWatch]:
    (folder / "key").write_text("a key of more than sixteen bytes")
    parts = parts_on(store, policies_in(folder, more))
    watch = VaultWatch(store, parts.registry)
    return replace(parts, vault=lambda: watch.seen), watch


async def test_without_a_vault_there_is_nothing_to_say_of_it(parts: Resources) -> None:
    assert (await seen_of(parts))["vault"] is None


async def test_a_vault_shows_how_it_stood_at_the_last_look(store: Store, tmp_path: Path) -> None:
    parts, watch = with_vault(store, tmp_path)
    await presence.report(store, "relay-1")
    assert (await seen_of(parts))["vault"] is None  # not looked at yet
    await watch.run_once(parts.policies.sessions.vault)
    seen = await seen_of(parts)
    assert (seen["messages"], seen["vault"]["place"], seen["vault"]["keep"]) == ([], "store", 3)
    await troubles.note(store, "save", "s1", "No space left on device")
    seen = await seen_of(parts)
    assert [(one["kind"], one["session"]) for one in seen["vault"]["troubles"]] == [("save", "s1")]
    (sentence,) = seen["messages"]
    assert sentence.startswith("the login of session s1 could not be saved (1 time, the last ")


async def test_a_vault_whose_folder_is_gone_says_so(store: Store, tmp_path: Path) -> None:
    parts, watch = with_vault(store, tmp_path, VAULT.replace("'file:key'", "'file:key', url: file:vault"))
    await presence.report(store, "relay-1")
    await watch.run_once(parts.policies.sessions.vault)
    (sentence,) = (await seen_of(parts))["messages"]
    assert sentence.startswith("the vault cannot be reached, so no login is saved or restored: the vault's folder ")
