"""The durable queue of one endpoint: events go in once, deliveries come out in order per session until settled.

An event is always in exactly one place of each endpoint that it is for:

    accept --> waiting --poll(want)--> leased --poll(settled)--> delivered (gone)
                 ^                       |
                 |<-- retry, return -----|
                 |<-- lease over --------|
                 |                       +--> dead --replay--> waiting
                 +--> expired, replaced, superseded (gone)       +--drop--> gone

All rules are in `lua/`. This file is the way out, `inbox.py` the way in, `dead_letters.py` is for the dead letters.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relay.queue.codec import LANE_LETTERS, Delivery, Lane, delivery_of, id_of
from relay.queue.inbox import Destination
from relay.queue.lanes import quotas
from relay.queue.layout import MAX_HISTORY, PARTITIONS, any_key, keys, own_key, wake_channel
from relay.queue.newest import Newest
from relay.queue.suspects import MAX_CRASHES, Suspects
from sluice.store import clock
from sluice.store.client import Arg, Call, Store, load_script

_POLL = load_script("relay.queue", "events", "partition", "poll", drains=True)
_EXTEND = load_script("relay.queue", "events", "partition", "extend", drains=True)
_ADVANCE = load_script("relay.queue", "events", "partition", "advance", drains=True)
_NEVER_TRIED = (0, 0, b"")
_COUNTED = (
    *("bytes", "dead_bytes", "kept_bytes", "accepted", "delivered", "retried", "replaced", "expired"),
    "superseded",
    *("repeats", "refused", "left_out", "dropped", "lost", "dead", "token"),
)

Disposition = Literal["delivered", "superseded", "retry", "unspent", "rejected", "return", "dead"]
"""Retry: an attempt failed. Unspent, rejected: it failed, and no attempt is counted. Return: nothing came of it."""


class Settlement:
    """What is to become of a leased delivery. Never changed."""

    def __init__(
        self, delivery: Delivery, disposition: Disposition, argument: int | str = 0, summary: str = "", at: float = 0.0
    ) -> None:
        self.delivery = delivery
        self.disposition = disposition
        self.argument = argument
        """Dead: the reason; where it stays in the queue: ms until it is due again."""
        self.summary = summary
        """The attempt in one line, for the history (`history_codec.summary_of`); empty: it was not sent."""
        self.at = at
        """When the attempt failed, in unix seconds by the clock of the endpoint's circuit; 0: when it is settled."""


@dataclass(frozen=True, slots=True)
class Polled:
    leased: list[Delivery]
    refused: list[Delivery]
    """Settled too late: somebody else holds their leases by now."""


@dataclass(frozen=True, slots=True)
class Lately:
    """What a person is noticed until it has not happened for a day."""

    times: int
    since: float
    """Seconds since the first time, with no day between two times."""
    last: float
    """Seconds since the last time."""


Notice = Literal["refused", "left_out", "capped", "unkept"]
"""Events refused, or left out here, as the backlog was full; dead letters dropped as there were too many, and bodies of
delivered events."""
_NOTICES: tuple[Notice, ...] = ("refused", "left_out", "capped", "unkept")
_NOTICE_FIELDS = tuple([f"{what}_{part}" for what in _NOTICES for part in ("lately", "since", "at")])
_NOTICED_FOR = 24 * 60 * 60 * 1000  # ms


@dataclass(frozen=True, slots=True)
class Counts:
    waiting: int
    leased: int
    dead: int
    bytes: int
    """Of what waits or is leased."""
    dead_bytes: int
    kept_bytes: int
    """Of delivered events whose bodies are kept."""
    oldest_due: float
    """Seconds since the event that has been due for longest became due; 0 when none is."""
    oldest_by_lane: Mapping[Lane, float]
    """The same of each lane."""
    accepted: int
    delivered: int
    retried: int
    replaced: int
    expired: int
    superseded: int
    """A newer one of another session, or of the same, made them harmful."""
    repeats: int
    refused: int
    left_out: int
    """While other endpoints took them."""
    buried: int
    dropped: int
    """By a person, for their age, or as there were too many."""
    lost: int
    """Somebody else has taken their content out of the store."""
    claims: int
    """Grows with every poll that leases something, and never shrinks."""
    lately: Mapping[Notice, Lately]
    sorting: bool
    """What waits is put in order first (`relay/queue/order.py`), and nothing is leased."""

    @property
    def stale(self) -> int:
        """Gone without being sent, as the policies say."""
        return self.replaced + self.expired + self.superseded


class Queue:
    """`lease` in seconds: `extend` it while an attempt is in flight.

    `max_bytes` and `max_events` may wait; up to `max_per_stream` events of a stream are leased together. `remember`,
    `attempt`: see `Newest`.
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
        required: bool = False,
        keep_bodies: bool = False,
        remember: float = 31 * 86400.0,
        attempt: float = 10.0,
    ) -> None:
        self.endpoint = endpoint
        self.lease = lease
        self.newest = Newest(store, endpoint, remember, attempt)
        self.destination = Destination(endpoint, max_bytes, max_events, in_order, keep_history, required, self.newest)
        self.suspects = Suspects(store, endpoint)
        self._store = store
        self._keys = [keys(endpoint, partition) for partition in range(PARTITIONS)]
        self._max_per_stream = max_per_stream
        self._max_history = MAX_HISTORY if keep_history else 0
        self._keep_bodies = int(keep_bodies)
        self._polls = 0
        self._due = [0.0] * PARTITIONS  # monotonic time from which on each partition is worth polling
        self._woken: set[int] = set()  # while a poll was in flight, whose answer may not know of it
        self.has_buried = False
        """There may be more dead letters than at the last time somebody set this to False."""
        self.has_kept = False
        """The same of the bodies of delivered events."""

    @property
    def channel(self) -> str:
        """On it is published which partitions have something new. Only a hint."""
        return wake_channel(self.endpoint)

    def wake(self, partitions: bytes) -> None:
        """`partitions`: a message of the channel."""
        for number in partitions.split(b","):
            if number.isdigit() and int(number) < PARTITIONS:
                self._due[int(number)] = 0.0
                self._woken.add(int(number))

    def look_everywhere(self) -> None:
        """Forgets when something is due, as a message of the channel may have been lost."""
        self._due = [0.0] * PARTITIONS

    def next_due(self) -> float:
        """Seconds until a poll makes sense; may be 0, or infinity when nothing waits."""
        return max(0.0, min(self._due) - time.monotonic())

    async def poll(self, settled: Sequence[Settlement], want: int) -> Polled:
        """Settles what ended and leases up to `want` deliveries that are due, in one round trip.

        Raises StoreAway or StoreRefused; then nothing is known, and the same results may be given again.
        """
        poll = self._prepare_poll(settled, want)
        return poll.read(await self._store.run_all(poll.calls)) if poll.calls else Polled([], [])

    async def poll_with(self, along: Call, settled: Sequence[Settlement], want: int) -> tuple[Any, Polled]:
        """As `poll`, with another call before it in the same round trip. Returns the answer to that, too."""
        poll = self._prepare_poll(settled, want)
        answer, *results = await self._store.run_all([along, *poll.calls])
        return answer, poll.read(results)

    def _prepare_poll(self, settled: Sequence[Settlement], want: int) -> _Poll:
        self._polls += 1
        by_partition: dict[int, list[Settlement]] = {}
        for result in settled:
            by_partition.setdefault(result.delivery.partition, []).append(result)
            if result.disposition == "dead":
                self.has_buried = True
        if self._keep_bodies and settled:
            self.has_kept = True
        shares = self._shares(want, by_partition)
        polled = sorted(by_partition.keys() | shares.keys())
        self._woken.clear()
        calls = [self._poll_call(p, by_partition.get(p, []), shares.get(p, 0)) for p in polled]
        return _Poll(calls, lambda results: self._read(polled, by_partition, results))

    def _read(self, polled: list[int], by_partition: dict[int, list[Settlement]], answers: Sequence[Any]) -> Polled:
        leased: list[Delivery] = []
        refused: list[Delivery] = []
        for partition, (late, due, token, rows, tried) in zip(polled, answers, strict=True):
            refused += [by_partition[partition][number - 1].delivery for number in late]
            leased += _deliveries(partition, token, rows, tried)
            if partition not in self._woken:
                self._due[partition] = time.monotonic() + due / 1000 if due >= 0 else math.inf
        return Polled(leased, refused)

    def _shares(self, want: int, settling: dict[int, list[Settlement]]) -> dict[int, int]:
        """How many to lease from each partition that is worth polling; settling makes one worth it.

        Evenly; where several of a stream are leased together, `max_per_stream` from each of a few partitions.
        """
        now = time.monotonic()
        worth = [p for p in range(PARTITIONS) if self._due[p] <= now or p in settling]
        if not worth or want <= 0:
            return {}
        first = self._polls % len(worth)
        worth = worth[first:] + worth[:first]
        if self._max_per_stream > 1:
            return dict.fromkeys(worth[: max(1, want // self._max_per_stream)], min(want, self._max_per_stream))
        share, more = divmod(want, len(worth))
        return {p: share + (i < more) for i, p in enumerate(worth) if share + (i < more)}

    def _poll_call(self, partition: int, settled: list[Settlement], want: int) -> Call:
        args: list[Arg] = [
            *(int(self.lease * 1000), *self._quotas(want), want),
            *(MAX_CRASHES, self._max_per_stream, self._max_history, self._keep_bodies),
        ]
        for result in settled:
            args += _settling(result)
        return Call(_POLL, self._keys[partition], args)

    def _quotas(self, want: int) -> tuple[int, int, int]:
        """Where several of a stream are leased together, only bulk has a quota: no other cuts a stream."""
        urgent, normal, bulk = quotas(want, self._polls // PARTITIONS)
        return (urgent, normal, bulk) if self._max_per_stream == 1 else (urgent + normal, 0, bulk)

    async def extend(self, held: Sequence[Delivery]) -> list[Delivery]:
        """Begins these leases anew. Returns those that somebody else holds by now.

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

    async def advance_one(self) -> str | None:
        """Makes an event due now that waits for a backoff, or finds one that is due: its id; None: nothing can be sent.

        Raises StoreAway or StoreRefused.
        """
        for partition, partition_keys in enumerate(self._keys):
            entry_id = await self._store.run(_ADVANCE, partition_keys, [])
            if entry_id is not None:
                await self._store.commands(("PUBLISH", self.channel, partition))
                return id_of(entry_id).decode()
        return None

    async def counts(self) -> Counts:
        """What is in the queue now, and what happened so far."""
        commands: list[tuple[str | int, ...]] = []
        for partition in range(PARTITIONS):
            commands += [
                ("ZCARD", own_key(self.endpoint, partition, "queue")),
                ("HLEN", own_key(self.endpoint, partition, "leases")),
                ("ZCARD", own_key(self.endpoint, partition, "dead")),
                ("HMGET", own_key(self.endpoint, partition, "counts"), *_COUNTED, *_NOTICE_FIELDS, "order"),
            ]
            commands += [
                ("ZRANGE", own_key(self.endpoint, partition, lane), 0, 0, "WITHSCORES") for lane in LANE_LETTERS
            ]
        looks = [clock.look(any_key(partition)) for partition in range(PARTITIONS)]
        answers = await self._store.run_all(looks, commands)
        times, rest = answers[:PARTITIONS], answers[PARTITIONS:]
        rows = [rest[i : i + 7] for i in range(0, len(rest), 7)]
        counted = {name: sum(int(row[3][i] or 0) for row in rows) for i, name in enumerate(_COUNTED)}
        overdue = dict[Lane, float].fromkeys(LANE_LETTERS, 0.0)
        for (now, _), row in zip(times, rows, strict=True):
            for lane, first in zip(LANE_LETTERS, row[4:], strict=True):
                overdue[lane] = max(overdue[lane], (now - float(first[1])) / 1000) if first else overdue[lane]
        return Counts(
            waiting=sum(row[0] - row[1] for row in rows),
            leased=sum(row[1] for row in rows),
            dead=sum(row[2] for row in rows),
            oldest_due=max(overdue.values()),
            oldest_by_lane=overdue,
            buried=counted.pop("dead"),
            claims=counted.pop("token"),
            sorting=any(row[3][-1] == b"sorting" for row in rows),
            lately=_lately([row[3][len(_COUNTED) :] for row in rows], [now for now, _ in times]),
            **counted,
        )


def _lately(rows: Sequence[Sequence[bytes | None]], times: Sequence[int]) -> dict[Notice, Lately]:
    """`rows`: of each partition the values of `_NOTICE_FIELDS`. `times`: now, in each of them, in ms."""
    found: dict[Notice, Lately] = {}
    for i, what in enumerate(_NOTICES):
        recent = []
        for row, now in zip(rows, times, strict=True):
            how_often, since, last = [int(value or 0) for value in row[3 * i : 3 * i + 3]]
            if how_often and now - last <= _NOTICED_FOR:
                recent.append((how_often, now - since, now - last))
        if recent:
            found[what] = Lately(
                sum([one[0] for one in recent]),
                max([one[1] for one in recent]) / 1000,
                min([one[2] for one in recent]) / 1000,
            )
    return found


@dataclass(frozen=True, slots=True)
class _Poll:
    calls: list[Call]
    read: Callable[[Sequence[Any]], Polled]


def _settling(result: Settlement) -> tuple[Arg, ...]:
    """As arguments of `lua/poll.lua`. The head of the record goes along, so that the script need not read it."""
    one, disposition, summary = result.delivery, result.disposition, result.summary.replace("\n", " ")
    if disposition in ("delivered", "superseded"):
        return one.token, one.entry_id, disposition, one.size, summary, one.head
    last: Arg = one.head if disposition == "dead" else round(result.at * 1000)
    return one.token, one.entry_id, disposition, result.argument, summary, last


def _deliveries(partition: int, token: bytes, rows: list[bytes], tried: list[Any]) -> list[Delivery]:
    """`rows`: entry id and record of each; `tried`: entry id, attempts that failed, crash count, failures, of some."""
    before = {tried[i]: (tried[i + 1], tried[i + 2], tried[i + 3]) for i in range(0, len(tried), 4)}
    leased: list[Delivery] = []
    for i in range(0, len(rows), 2):
        failed, crash_count, failures = before.get(rows[i], _NEVER_TRIED)
        leased.append(delivery_of(partition, token, rows[i], rows[i + 1], failed, crash_count, failures))
    return leased
