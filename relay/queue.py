"""The durable queue of one endpoint: events go in once, deliveries come out in order per session until settled.

An event is always in exactly one place:

    accept --> waiting --turn(want)--> leased --turn(settled)--> delivered (gone)
                 ^                       |
                 |<-- failed, put back --|
                 |<-- lease over --------|
                 |                       +--> dead --replay--> waiting
                 +--> expired, replaced (gone, and counted)      +--drop--> gone

All rules are in `relay/lua/`; this file speaks to it, and `relay/dead.py` for the dead letters. The keys are in
`relay/layout.py`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from relay.event import Delivery, Event, pack, unpack
from relay.lanes import quotas
from relay.layout import KEYS, PARTITIONS, keys, partition_of, wake_channel
from runtime.shared_calls import Full, SharedCalls
from runtime.store import Call, Store, StoreAway, load_script

_ACCEPT = load_script("relay", "partition", "accept")
_TURN = load_script("relay", "partition", "turn")
_SHARED, _WAITING = 64, 4096
_LARGEST_CALL = 4 * 1024 * 1024
_PATIENCE = 3.0  # seconds a producer is held while the store is away: a restart takes less, and producers may not retry
_AWAY_FOR = 0.25  # seconds between two tries after that
_POISON = 3


class BacklogFull(Exception):
    """The endpoint's backlog is at its cap; nothing was stored."""


@dataclass(frozen=True, slots=True)
class Accepted:
    id: str
    repeat: bool
    """True: this id was accepted before, and was not stored again."""


@dataclass(frozen=True, slots=True)
class Settled:
    """How a delivery ended: `o` delivered, `r` failed, `p` put back, `d` dead; `argument` is ms to wait or a reason."""

    delivery: Delivery
    how: Literal["o", "r", "p", "d"]
    argument: int | str = 0


@dataclass(frozen=True, slots=True)
class Turn:
    leased: list[Delivery]
    refused: list[Delivery]
    """Settled too late: somebody else holds the lease by now."""


@dataclass(frozen=True, slots=True)
class Counts:
    waiting: int
    leased: int
    dead: int
    bytes: int
    oldest_due: float
    """Seconds the event that has been claimable for longest has been so; 0 when none is."""
    accepted: int
    delivered: int
    retried: int
    replaced: int
    expired: int
    repeats: int
    refused: int
    buried: int


class Queue:
    """`lease` in seconds, longer than the whole attempt."""

    def __init__(self, store: Store, endpoint: str, *, lease: float, most_bytes: int, most_events: int) -> None:
        self.endpoint = endpoint
        self.lease = lease
        self._store = store
        self._most = (-(-most_events // PARTITIONS), -(-most_bytes // PARTITIONS))
        self._accepts: SharedCalls[Event, int] = SharedCalls(self._accept_all, size=_SHARED, waiting=_WAITING)
        self._away = False
        self._try_again = 0.0
        self._turns = 0
        self._due = [0.0] * PARTITIONS  # monotonic time at which each partition is worth asking
        self._woken: set[int] = set()  # while a turn was under way: its answer knows nothing of it

    # --- in

    async def accept(self, event: Event) -> Accepted:
        """Stores an event. When this returns, it is stored as the store's promise says.

        While the store is away, callers are held for up to three seconds in the order they came. Raises StoreAway
        (it may or may not be stored; a repeat with the same id is harmless), StoreRefused, or BacklogFull.
        """
        try:
            answer = await self._accepts.ask(event)
        except Full:
            raise BacklogFull from None
        if answer < 0:
            raise BacklogFull
        return Accepted(event.id, repeat=answer == 0)

    async def _accept_all(self, events: Sequence[Event]) -> list[int]:
        """In the order they came, in calls of a bounded size: an event may carry a whole video."""
        answers: list[int] = []
        for call in _by_size(events):
            answers += await self._accept_call_of(call)
        return answers

    async def _accept_call_of(self, events: Sequence[Event]) -> list[int]:
        by_partition: dict[int, list[int]] = {}
        for i, event in enumerate(events):
            by_partition.setdefault(partition_of(event.stream), []).append(i)
        calls = [self._accept_call(p, [events[i] for i in chosen]) for p, chosen in by_partition.items()]
        wake = [("PUBLISH", self.channel, ",".join(map(str, by_partition)))]
        results = await self._held_while_away(calls, wake)
        answers = [0] * len(events)
        for chosen, part in zip(by_partition.values(), results, strict=False):
            for i, answer in zip(chosen, part, strict=True):
                answers[i] = answer
        return answers

    async def _held_while_away(self, calls: list[Call], wake: list[tuple[str, str, str]]) -> list[list[int]]:
        """Tried again here and not by each caller, so that what came later is not stored earlier.

        Only the first call of an outage waits: those behind it must not add up their waits.
        """
        deadline = time.monotonic() + (0.0 if self._away else _PATIENCE)
        if self._away and time.monotonic() < self._try_again:
            raise StoreAway("the store did not answer a moment ago")
        while True:
            try:
                results: list[list[int]] = await self._store.run_all(calls, wake)
            except StoreAway:
                if time.monotonic() >= deadline:
                    self._away, self._try_again = True, time.monotonic() + _AWAY_FOR
                    raise
                await asyncio.sleep(0.05)
            else:
                self._away = False
                return results

    def _accept_call(self, partition: int, events: list[Event]) -> Call:
        args: list[bytes | str | int] = [*self._most]
        for event in events:
            args += (
                *(event.stream, event.id, int(event.remember * 1000)),
                *(int(event.delay * 1000), int(event.ttl * 1000), event.keep, pack(event)),
            )
        return Call(_ACCEPT, keys(self.endpoint, partition), args)

    # --- out

    @property
    def channel(self) -> str:
        """Where accepting says which partitions have something new. Only a hint."""
        return wake_channel(self.endpoint)

    def wake(self, partitions: bytes) -> None:
        """Takes in a message of the channel."""
        for number in partitions.split(b","):
            if number.isdigit() and int(number) < PARTITIONS:
                self._due[int(number)] = 0.0
                self._woken.add(int(number))

    def look_everywhere(self) -> None:
        """Forget what is known about when something is due: a message of the channel may have been lost."""
        self._due = [0.0] * PARTITIONS

    def next_due(self) -> float:
        """Seconds until asking makes sense; may be 0, or infinity when nothing waits."""
        return max(0.0, min(self._due) - time.monotonic())

    async def turn(self, settled: Sequence[Settled], want: int) -> Turn:
        """Settles what ended and leases up to `want` deliveries that are due, in one round trip.

        Raises StoreAway or StoreRefused; then nothing is known, and the same results may be given again.
        """
        self._turns += 1
        by_partition: dict[int, list[Settled]] = {}
        for result in settled:
            by_partition.setdefault(result.delivery.partition, []).append(result)
        shares = self._shares(want, by_partition)
        asked = sorted(by_partition.keys() | shares.keys())
        if not asked:
            return Turn([], [])
        calls = [self._turn_call(p, by_partition.get(p, []), shares.get(p, 0)) for p in asked]
        self._woken.clear()
        leased: list[Delivery] = []
        refused: list[Delivery] = []
        for partition, (ends, due, heads) in zip(asked, await self._store.run_all(calls), strict=True):
            results = by_partition.get(partition, [])
            refused += [result.delivery for result, end in zip(results, ends, strict=True) if not end]
            leased += [_delivery(partition, head) for head in heads]
            if partition not in self._woken:
                self._due[partition] = time.monotonic() + due / 1000 if due >= 0 else math.inf
        return Turn(leased, refused)

    def _shares(self, want: int, settling: dict[int, list[Settled]]) -> dict[int, int]:
        """How many to ask of each partition: evenly over those that are worth asking; settling makes one worth it."""
        now = time.monotonic()
        worth = [p for p in range(PARTITIONS) if self._due[p] <= now or p in settling]
        if not worth or want <= 0:
            return {}
        first = self._turns % len(worth)
        worth = worth[first:] + worth[:first]
        share, more = divmod(want, len(worth))
        return {p: share + (i < more) for i, p in enumerate(worth) if share + (i < more)}

    def _turn_call(self, partition: int, settled: list[Settled], want: int) -> Call:
        args: list[bytes | str | int] = [
            int(self.lease * 1000),
            *quotas(want, self._turns // PARTITIONS),
            want,
            _POISON,
        ]
        for result in settled:
            delivery = result.delivery
            args += (delivery.stream, delivery.token, delivery.eid, result.how, result.argument)
        return Call(_TURN, keys(self.endpoint, partition), args)

    # --- looking

    async def counts(self) -> Counts:
        """What is in the queue now, and what happened so far."""
        commands: list[tuple[str | int, ...]] = [("TIME",)]
        for partition in range(PARTITIONS):
            key = dict(zip(KEYS, keys(self.endpoint, partition), strict=True))
            commands += [
                ("ZCARD", key["queue"]),
                ("HLEN", key["owners"]),
                ("ZCARD", key["dead"]),
                ("HGETALL", key["counts"]),
                *(("ZRANGE", key[lane], 0, 0, "WITHSCORES") for lane in ("urgent", "normal", "bulk")),
            ]
        (seconds, micros), *rest = await self._store.commands(*commands)
        now = int(seconds) * 1000 + int(micros) // 1000
        rows = [rest[i : i + 7] for i in range(0, len(rest), 7)]
        told: dict[str, int] = {}
        for row in rows:
            for name, value in row[3].items():
                told[name.decode()] = told.get(name.decode(), 0) + int(value)
        dues = [float(lane[1]) for row in rows for lane in row[4:] if lane]
        return Counts(
            waiting=sum(row[0] - row[1] for row in rows),
            leased=sum(row[1] for row in rows),
            dead=sum(row[2] for row in rows),
            bytes=told.get("bytes", 0),
            oldest_due=max(0.0, now - min(dues, default=now)) / 1000,
            accepted=told.get("accepted", 0),
            delivered=told.get("delivered", 0),
            retried=told.get("retried", 0),
            replaced=told.get("replaced", 0),
            expired=told.get("expired", 0),
            repeats=told.get("repeats", 0),
            refused=told.get("refused", 0),
            buried=told.get("dead", 0),
        )


def _by_size(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Consecutive events, together of at most 4 MiB or a single one."""
    together: list[Event] = []
    size = 0
    for event in events:
        if together and size + len(event.body) > _LARGEST_CALL:
            yield together
            together, size = [], 0
        together.append(event)
        size += len(event.body)
    if together:
        yield together


def _delivery(partition: int, head: tuple[bytes, int, bytes, bytes, bytes]) -> Delivery:
    stream, token, eid, content, attempts = head
    event = unpack(content)
    return Delivery(
        id=event.id,
        type=event.type,
        session=event.session,
        target=event.target,
        headers=event.headers,
        body=event.body,
        accepted_at=event.accepted_at,
        attempt=int(attempts) + 1,
        partition=partition,
        stream=stream,
        token=b"%d" % token,
        eid=eid,
    )
