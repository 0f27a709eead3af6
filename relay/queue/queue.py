"""The durable queue of one endpoint: events go in once, deliveries come out in order per session until settled.

An event is always in exactly one place of each endpoint that it is for:

    accept --> waiting --turn(want)--> leased --turn(settled)--> delivered (gone)
                 ^                       |
                 |<-- failed, put back --|
                 |<-- lease over --------|
                 |                       +--> dead --replay--> waiting
                 +--> expired, replaced (gone, and counted)      +--drop--> gone

All rules are in `lua/`; this file speaks to it, `inbox.py` for the way in, and `dead_letters.py` for the dead letters.
The keys are in `layout.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relay.queue.codec import Delivery, Event, delivery_of
from relay.queue.inbox import Accepted, Destination, Inbox
from relay.queue.lanes import quotas
from relay.queue.layout import KEYS, MAX_HISTORY, PARTITIONS, keys, wake_channel
from sluice.store.client import Arg, Call, Store, load_script

_TURN = load_script("relay.queue", "events", "partition", "turn", drains=True)
_EXTEND = load_script("relay.queue", "events", "partition", "extend", drains=True)
_POISON = 3
_NEVER_TRIED = (0, 0)
_TOLD = (
    "bytes",
    "accepted",
    "delivered",
    "retried",
    "replaced",
    "expired",
    "repeats",
    "refused",
    "dropped",
    "lost",
    "dead",
    "tok",
)


@dataclass(slots=True, init=False)
class Settlement:
    """How a delivery ended: `o` delivered, `r` failed, `p` put back, `d` dead; `argument` is ms to wait or a reason.

    Never changed.
    """

    delivery: Delivery
    how: Literal["o", "r", "p", "d"]
    argument: int | str = 0
    told: str = ""
    """What came of the attempt, for people: `<status or -> <ms> <reason>`."""

    def __init__(
        self, delivery: Delivery, how: Literal["o", "r", "p", "d"], argument: int | str = 0, told: str = ""
    ) -> None:
        self.delivery = delivery
        self.how = how
        self.argument = argument
        self.told = told


@dataclass(frozen=True, slots=True)
class Polled:
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
    dropped: int
    """By a person, or for their age."""
    lost: int
    """Their content was taken out of the store by somebody else."""
    claims: int
    """Only ever grows: by it is seen whether anything is claimed."""


class Queue:
    """`lease` in seconds: `extend` it while an attempt is under way.

    `max_bytes` and `max_events` may wait, dead letters included; `max_per_stream` of a stream are leased together.
    """

    def __init__(
        self,
        store: Store,
        endpoint: str,
        *,
        lease: float,
        max_bytes: int,
        max_events: int,
        in_order: bool = True,
        max_per_stream: int = 1,
        keep_history: bool = True,
    ) -> None:
        self.endpoint = endpoint
        self.lease = lease
        self.place = Destination(endpoint, max_bytes, max_events, in_order, keep_history)
        self._store = store
        self._inbox = Inbox(store)
        self._keys = [keys(endpoint, partition) for partition in range(PARTITIONS)]
        self._max_of_one = max_per_stream
        self._max_logged = MAX_HISTORY if keep_history else 0
        self._turns = 0
        self._due = [0.0] * PARTITIONS  # monotonic time at which each partition is worth asking
        self._woken: set[int] = set()  # while a turn was under way: its answer knows nothing of it

    async def accept(self, event: Event) -> Accepted:
        """Stores an event for this endpoint alone; as `Inbox.accept`, which stores for several."""
        return await self._inbox.accept(event, [self.place])

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

    async def turn(self, settled: Sequence[Settlement], want: int) -> Polled:
        """Settles what ended and leases up to `want` deliveries that are due, in one round trip.

        Raises StoreAway or StoreRefused; then nothing is known, and the same results may be given again.
        """
        turning = self._prepare_poll(settled, want)
        return turning.read(await self._store.run_all(turning.calls)) if turning.calls else Polled([], [])

    async def poll_with(self, along: Call, settled: Sequence[Settlement], want: int) -> tuple[Any, Polled]:
        """A turn with another call before it in the same round trip, and the answer to that."""
        turning = self._prepare_poll(settled, want)
        answer, *results = await self._store.run_all([along, *turning.calls])
        return answer, turning.read(results)

    def _prepare_poll(self, settled: Sequence[Settlement], want: int) -> _Poll:
        self._turns += 1
        by_partition: dict[int, list[Settlement]] = {}
        for result in settled:
            by_partition.setdefault(result.delivery.partition, []).append(result)
        shares = self._shares(want, by_partition)
        asked = sorted(by_partition.keys() | shares.keys())
        self._woken.clear()
        calls = [self._turn_call(p, by_partition.get(p, []), shares.get(p, 0)) for p in asked]
        return _Poll(calls, lambda results: self._read(asked, by_partition, results))

    def _read(self, asked: list[int], by_partition: dict[int, list[Settlement]], answers: Sequence[Any]) -> Polled:
        leased: list[Delivery] = []
        refused: list[Delivery] = []
        for partition, (late, due, token, rows, tried) in zip(asked, answers, strict=True):
            refused += [by_partition[partition][number - 1].delivery for number in late]
            leased += _deliveries(partition, token, rows, tried)
            if partition not in self._woken:
                self._due[partition] = time.monotonic() + due / 1000 if due >= 0 else math.inf
        return Polled(leased, refused)

    def _shares(self, want: int, settling: dict[int, list[Settlement]]) -> dict[int, int]:
        """How many to ask of each partition that is worth asking; settling makes one worth it.

        Evenly; where several of a stream go together, for as many as go together of some.
        """
        now = time.monotonic()
        worth = [p for p in range(PARTITIONS) if self._due[p] <= now or p in settling]
        if not worth or want <= 0:
            return {}
        first = self._turns % len(worth)
        worth = worth[first:] + worth[:first]
        if self._max_of_one > 1:
            return dict.fromkeys(worth[: max(1, want // self._max_of_one)], min(want, self._max_of_one))
        share, more = divmod(want, len(worth))
        return {p: share + (i < more) for i, p in enumerate(worth) if share + (i < more)}

    def _turn_call(self, partition: int, settled: list[Settlement], want: int) -> Call:
        args: list[Arg] = [
            *(int(self.lease * 1000), *self._quotas(want), want),
            *(_POISON, self._max_of_one, self._max_logged),
        ]
        for result in settled:
            args += _ending(result)
        return Call(_TURN, self._keys[partition], args)

    def _quotas(self, want: int) -> tuple[int, int, int]:
        """Where several of a stream go together, a stream is not cut at its lane's quota; only bulk has one."""
        urgent, normal, bulk = quotas(want, self._turns // PARTITIONS)
        return (urgent, normal, bulk) if self._max_of_one == 1 else (urgent + normal, 0, bulk)

    async def extend(self, held: Sequence[Delivery]) -> list[Delivery]:
        """Leases begin anew now. Those that are somebody else's by now.

        Raises StoreAway or StoreRefused; then nothing is known.
        """
        by_partition: dict[int, list[Delivery]] = {}
        for delivery in held:
            by_partition.setdefault(delivery.partition, []).append(delivery)
        calls = [
            Call(
                _EXTEND,
                self._keys[partition],
                [int(self.lease * 1000), *(part for one in leases for part in (one.token, one.entry_id))],
            )
            for partition, leases in by_partition.items()
        ]
        lost: list[Delivery] = []
        for leases, extended in zip(by_partition.values(), await self._store.run_all(calls), strict=True):
            lost += [one for one, still in zip(leases, extended, strict=True) if not still]
        return lost

    # --- looking

    async def counts(self) -> Counts:
        """What is in the queue now, and what happened so far."""
        commands: list[tuple[str | int, ...]] = [("TIME",)]
        for partition in range(PARTITIONS):
            key = dict(zip(KEYS, self._keys[partition], strict=True))
            commands += [
                ("ZCARD", key["queue"]),
                ("HLEN", key["owners"]),
                ("ZCARD", key["dead"]),
                ("HMGET", key["counts"], *_TOLD),
                *(("ZRANGE", key[lane], 0, 0, "WITHSCORES") for lane in ("urgent", "normal", "bulk")),
            ]
        (seconds, micros), *rest = await self._store.commands(*commands)
        now = int(seconds) * 1000 + int(micros) // 1000
        rows = [rest[i : i + 7] for i in range(0, len(rest), 7)]
        told = {name: sum(int(row[3][i] or 0) for row in rows) for i, name in enumerate(_TOLD)}
        dues = [float(lane[1]) for row in rows for lane in row[4:] if lane]
        return Counts(
            waiting=sum(row[0] - row[1] for row in rows),
            leased=sum(row[1] for row in rows),
            dead=sum(row[2] for row in rows),
            oldest_due=max(0.0, now - min(dues, default=now)) / 1000,
            buried=told.pop("dead"),
            claims=told.pop("tok"),
            **told,
        )


@dataclass(frozen=True, slots=True)
class _Poll:
    calls: list[Call]
    read: Callable[[Sequence[Any]], Polled]


def _ending(result: Settlement) -> tuple[Arg, ...]:
    """As `relay/queue/lua/turn.lua` takes it. What leaves tells of its record, so that none is read for that."""
    one, told = result.delivery, result.told.replace("\n", " ")
    if result.how == "o":
        return one.token, one.entry_id, "o", one.size, told, one.head
    return one.token, one.entry_id, result.how, result.argument, told, one.head if result.how == "d" else b""


def _deliveries(partition: int, token: bytes, rows: list[bytes], tried: list[Any]) -> list[Delivery]:
    """`rows`: eid and record of each; `tried`: eid, attempts that failed and holders that died, of some."""
    before = {tried[i]: (tried[i + 1], tried[i + 2]) for i in range(0, len(tried), 3)}
    leased: list[Delivery] = []
    for i in range(0, len(rows), 2):
        failed, crash_count = before.get(rows[i], _NEVER_TRIED)
        leased.append(delivery_of(partition, token, rows[i], rows[i + 1], failed, crash_count))
    return leased
