"""An event is always in exactly one place of each of its endpoints, whatever is done in whatever order.

Hypothesis drives the real scripts on a real store: producers that repeat themselves, holders that die, come late or say
everything twice, a clock that jumps. After each step the whole store is read and has to add up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.queue import dead_letters as dead, heads, inbox, moving, order, queue, waiting
from relay.queue.codec import LANE_LETTERS, Delivery, Event, GoesFirst, Lane, id_of, sequence_of
from relay.queue.dead_letters import DeadLetters
from relay.queue.inbox import Inbox
from relay.queue.layout import OWN, PARTITIONS, own_key, own_keys, shared_keys
from relay.queue.moving import Mover
from relay.queue.queue import Queue, Settlement
from relay.queue.waiting import Removal, Waiting
from sluice.store.client import Script, Store
from tests.relay.making import event

Result = TypeVar("Result")
ENDPOINTS = ("one", "other")
_ENDS = ("delivered", "superseded", "dead")
LEASE, DEDUPE_WINDOW = 5.0, 60.0
START = 1_700_000_000.0


def with_a_clock_of_ours(script: Script) -> Script:
    """The store's clock is the key `clock` (ms); everything else is as it is."""
    text = script.text.replace("call('TIME')", "{tonumber(call('GET', 'clock')) / 1000, 0}")
    assert text != script.text
    return Script(script.name, text, "0" * 40)  # unknown to the store, so that the text is sent


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> None:
    of_queue = ((inbox, "_ACCEPT"), (queue, "_POLL"), (queue, "_EXTEND"))
    of_people = (
        (dead, "_REPLAY"),
        (dead, "_DROP"),
        (waiting, "_REMOVE"),
        (moving, "_MOVE"),
        (heads, "_HEADS"),
        (order, "_SORT"),
    )
    for module, name in (*of_queue, *of_people):
        monkeypatch.setattr(module, name, with_a_clock_of_ours(getattr(module, name)))


class Places(RuleBasedStateMachine):
    url = ""

    @initialize(max_per_stream=st.sampled_from([1, 3]), in_order=st.booleans())
    def open(self, max_per_stream: int, in_order: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = Store(self.url, timeout=5.0)
        self.now = START
        self.inbox = Inbox(self.store)
        self.queues = {
            name: Queue(
                self.store,
                name,
                lease=LEASE,
                max_bytes=10**9,
                max_events=10**6,
                max_per_stream=max_per_stream,
                in_order=in_order or name == "one",
            )
            for name in ENDPOINTS
        }
        self.given: list[tuple[Event, tuple[str, ...]]] = []
        self.held: list[tuple[str, list[Delivery]]] = []
        """What holders believe that they hold; some are dead, some are late."""
        self.ended: Counter[str] = Counter()
        self.run(self.store.commands(("FLUSHALL",), ("SET", "clock", int(self.now * 1000))))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.store.close())
            self.loop.close()

    # --- what happens

    @rule(
        session=st.sampled_from(["a", "b", None]),
        lane=st.sampled_from(["urgent", "normal", "bulk"]),
        coalesce_key=st.sampled_from(["", "", "k"]),
        ttl=st.sampled_from([0.0, 0.0, 3.0]),
        delay=st.sampled_from([0.0, 0.0, 2.0]),
        endpoints=st.sampled_from([("one",), ("other",), ENDPOINTS]),
        room=st.sampled_from([10**6, 10**6, 1]),
        goes_first=st.sampled_from([None, None, None, GoesFirst("first", 3.0), GoesFirst("after", 3.0)]),
    )
    def accept(
        self,
        session: str | None,
        lane: Lane,
        coalesce_key: str,
        ttl: float,
        delay: float,
        endpoints: tuple[str, ...],
        room: int,
        goes_first: GoesFirst | None,
    ) -> None:
        number = f"evt_{len(self.given)}"
        given = event(
            session,
            b"x" * (len(self.given) % 7),
            lane,
            id=number,
            coalesce_key=coalesce_key,
            ttl=ttl,
            delay=delay,
            dedupe_window=DEDUPE_WINDOW,
            goes_first=goes_first if session is not None and lane == "urgent" else None,
        )
        self.given.append((given, endpoints))
        one, *others = [self.queues[name].destination for name in endpoints]
        destinations = [one, *(replace(other, max_events=room) for other in others)]
        assert not self.run(self.inbox.accept(given, destinations)).repeat

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def accept_again(self, data: st.DataObject) -> None:
        given, endpoints = data.draw(st.sampled_from(self.given[-5:]))
        if not self.run(self.inbox.accept(given, [self.queues[name].destination for name in endpoints])).repeat:
            for name in ENDPOINTS:  # its time to be recognised is over
                del self.ended[given.id + name]

    @rule(name=st.sampled_from(ENDPOINTS), want=st.integers(1, 12))
    def lease(self, name: str, want: int) -> None:
        self.queues[name].look_everywhere()
        leased = self.run(self.queues[name].poll([], want)).leased
        assert len(leased) <= want
        self._are_heads(name, leased)
        if leased:
            self.held.append((name, leased))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), want=st.integers(0, 3), twice=st.booleans())
    def settle(self, data: st.DataObject, want: int, twice: bool) -> None:
        name, leased = data.draw(st.sampled_from(self.held))
        endings = [("delivered", 0), ("retry", 0), ("retry", 4000), ("unspent", 9), ("rejected", 0), ("return", 0)]
        endings += [("dead", "answered 422"), ("superseded", 0)]
        ending = st.sampled_from(endings)
        settled = [Settlement(one, *data.draw(ending), summary="200 1") for one in leased]  # type: ignore[arg-type]
        self.queues[name].look_everywhere()
        polled = self.run(self.queues[name].poll(settled, want))
        if polled.leased:
            self.held.append((name, polled.leased))
        if twice:
            again = self.run(self.queues[name].poll(settled, 0))
            assert len(again.refused) == len(settled)
        refused = [id(delivery) for delivery in polled.refused]
        done = [one for one in settled if id(one.delivery) not in refused and one.disposition in _ENDS]
        self.ended.update(one.delivery.id + name for one in done if one.disposition != "dead")

    @rule(name=st.sampled_from(ENDPOINTS), act=st.sampled_from(["session", "none", "go on"]))
    def sort(self, name: str, act: str) -> None:
        if act == "go on":
            self.run(order.go_on(self.store, name))
        else:
            self.run(order.keep(self.store, name, in_order=act == "session"))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        name, leased = data.draw(st.sampled_from(self.held))
        self.run(self.queues[name].extend(leased))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.held.remove(data.draw(st.sampled_from(self.held)))

    @rule(seconds=st.sampled_from([0.5, 2.0, 6.0, 100.0, -3.0]))
    def jump(self, seconds: float) -> None:
        self.now += seconds
        self.run(self.store.commands(("SET", "clock", int(self.now * 1000))))

    @rule(name=st.sampled_from(ENDPOINTS), act=st.sampled_from(["replay", "drop"]), most=st.integers(1, 3))
    def bring_back_or_drop(self, name: str, act: str, most: int) -> None:
        letters = DeadLetters(self.store, name)

        async def work() -> None:
            found = [letter async for letter in letters.all()][:most]
            assert await getattr(letters, act)(found) == len(found)
            assert await getattr(letters, act)(found) == 0

        self.run(work())

    @rule(name=st.sampled_from(ENDPOINTS), how=st.sampled_from(["skip", "drop", "expire"]), most=st.integers(1, 3))
    def take_out(self, name: str, how: Removal, most: int) -> None:
        queue = Waiting(self.store, name)

        async def work() -> None:
            found = [place async for page in queue.places(None, None, 2) for place in page][:most]
            removed = await queue.remove(found, how)
            assert removed.taken + removed.leased == len(found) or how == "expire"
            assert (await queue.remove(found, how)).taken == 0

        self.run(work())

    @rule(old=st.sampled_from(ENDPOINTS), limit=st.integers(1, 5))
    def move(self, old: str, limit: int) -> None:
        (new,) = {*ENDPOINTS} - {old}
        self.run(Mover(self.store, old, new).move(limit))

    def _are_heads(self, name: str, leased: list[Delivery]) -> None:
        """What is leased of a stream is what it begins with."""
        by_stream: dict[bytes, list[bytes]] = {}
        for delivery in leased:
            by_stream.setdefault(delivery.stream, []).append(delivery.entry_id)
        for delivery in leased:
            key = own_keys(name, delivery.partition)[0]
            stream, eids = delivery.stream, by_stream[delivery.stream]
            first = ("ZRANGE", key, b"[" + stream + b"\0", b"(" + stream + b"\1", "BYLEX", "LIMIT", 0, len(eids))
            assert self.run(self.store.commands(first))[0] == eids

    # --- what always holds

    @invariant()
    def it_adds_up(self) -> None:
        if not hasattr(self, "loop"):
            return
        holders: Counter[bytes] = Counter()
        records: dict[bytes, int] = {}
        refs: dict[bytes, int] = {}
        for partition in range(PARTITIONS):
            shared = shared_keys(partition)
            events, referred = self.run(self.store.commands(("HGETALL", shared[0]), ("HGETALL", shared[1])))
            records |= {identity: len(record) for identity, record in events.items()}
            refs |= {identity: int(count) for identity, count in referred.items()}
        for name in ENDPOINTS:
            holders += self._of_one_endpoint(name, records)
        assert set(records) == set(holders), "stored as long as somebody holds it, and no longer"
        endpoints = {given.id.encode(): len(to) for given, to in self.given}
        assert refs == {identity: holders[identity] for identity in holders if endpoints[identity] > 1}
        assert not [key for key, times in self.ended.items() if times > 1], "delivered once"

    def _of_one_endpoint(self, name: str, records: dict[bytes, int]) -> Counter[bytes]:
        holders: Counter[bytes] = Counter()
        size = dead_size = 0
        for partition in range(PARTITIONS):
            key = dict(zip(OWN, own_keys(name, partition), strict=True))
            waiting, died, leases, latest, attempts, reasons, *lanes = self.run(
                self.store.commands(
                    ("ZRANGE", key["queue"], 0, -1),
                    ("ZRANGE", key["dead"], 0, -1),
                    ("HGETALL", key["leases"]),
                    ("HGETALL", key["latest"]),
                    ("HKEYS", key["attempts"]),
                    ("HKEYS", key["reasons"]),
                    *(("ZRANGE", key[lane], 0, -1) for lane in LANE_LETTERS),
                )
            )
            streams = {entry_id[: entry_id.index(b"\0")] for entry_id in waiting}
            assert not set(waiting) & set(died), "in one place"
            assert set(reasons) == set(died)
            scheduled = [stream for lane in lanes for stream in lane]
            assert sorted(scheduled) == sorted(streams), "each stream that waits is scheduled, in one lane"
            assert all(
                stream[:1] == letter.encode()
                for letter, some in zip(LANE_LETTERS.values(), lanes, strict=True)
                for stream in some
            )
            assert set(leases) <= streams, "only what waits is leased"
            for stream, lease in leases.items():
                _, last, is_followed, _ = lease.split(b" ", 3)
                following = [
                    entry_id
                    for entry_id in waiting
                    if entry_id.startswith(stream + b"\0") and sequence_of(entry_id) > int(last)
                ]
                assert following or is_followed == b"0", "what followed a lease waits until it is settled"
            assert set(latest.values()) <= set(waiting), "only what waits is replaced"
            known = set(waiting) | set(died)
            assert {field[:-1] if field[-1:] in (b"\2", b"\3", b"\4", b"\5") else field for field in attempts} <= known
            holders.update(id_of(entry_id) for entry_id in known)
            size += sum(records[id_of(entry_id)] for entry_id in waiting)
            dead_size += sum(records[id_of(entry_id)] for entry_id in died)
        counts = self.run(self.queues[name].counts())
        held = counts.waiting + counts.leased + counts.dead
        assert (counts.bytes, counts.dead_bytes) == (size, dead_size)
        assert held == sum(holders.values())
        gone = counts.delivered + counts.stale + counts.dropped
        fields = [("HGET", own_key(name, partition, "counts"), "moved") for partition in range(PARTITIONS)]
        moved = sum(int(value or 0) for value in self.run(self.store.commands(*fields)))
        assert counts.accepted + moved == held + gone
        assert max(holders.values(), default=1) == 1
        return holders


def test_an_event_is_always_in_exactly_one_place(store_url: str, clocked: None) -> None:
    Places.url = store_url
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Places,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
