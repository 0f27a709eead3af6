"""The way in: events are stored, each once, for all the endpoints they are for.

Concurrent callers share a round trip. All rules are in `relay/queue/lua/accept.lua`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.queue.codec import LANE_LETTERS, Event, microseconds, pack
from relay.queue.errors import BacklogFull, NotReplicated
from relay.queue.layout import (
    MAX_HISTORY,
    PARTITIONS,
    endpoints_key,
    own_keys,
    partition_of,
    shared_keys,
    wake_channel,
)
from sluice.store.client import Arg, Call, Store, StoreAway, by_text, load_script
from sluice.store.protocol.errors import Full
from sluice.store.shared_calls import SharedCalls

_ACCEPT = load_script("relay.queue", "events", "accept")
_MAX_SHARED, _MAX_WAITING = 64, 4096
_MAX_CALL = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Accepted:
    id: str
    repeat: bool
    """True: this id was accepted before, and was not stored again."""
    replicas: int = 0
    """How many of the store's replicas have it, at least; 0: none had to."""


@dataclass(frozen=True, slots=True)
class Destination:
    """An endpoint that an event is for, and how much may wait for it, its dead letters included."""

    endpoint: str
    max_bytes: int
    max_events: int
    in_order: bool = True
    """Within each session; else no event waits for another."""
    keep_history: bool = True
    """Whether its events can still be found after they have left."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """An event that a caller waits to have stored."""

    event: Event
    destinations: tuple[Destination, ...]
    content: bytes


class Inbox:
    """One for all endpoints: what comes in at the same time is stored in one round trip.

    `replicas`: so many replicas of the store must have an event before it is accepted (WAIT), within `replicas_within`
    seconds. Then `store` must be a connection that nobody else uses, as whatever is behind a WAIT waits, too. Not for a
    cluster, where WAIT covers one server of many.
    """

    def __init__(self, store: Store, *, replicas: int = 0, replicas_within: float = 0.5) -> None:
        self._store = store
        self._replicas = replicas
        self._wait = ("WAIT", replicas, int(replicas_within * 1000))
        self._accepts: SharedCalls[_Pending, int] = SharedCalls(
            self._accept_all, size=_MAX_SHARED, waiting=_MAX_WAITING
        )

    async def accept(self, event: Event, destinations: Sequence[Destination]) -> Accepted:
        """Stores an event for one or more endpoints. When this returns, it is stored as the store's promise says.

        Raises StoreAway (it may or may not be stored; a repeat with the same id is harmless), StoreRefused, or
        BacklogFull.
        """
        pending = _Pending(event, tuple(destinations), pack(event))
        try:
            answer = await self._accepts.ask(pending)
        except Full:
            raise StoreAway("too many events wait to be stored") from None
        if answer < 0:
            raise BacklogFull(destinations[-answer - 1].endpoint)
        return Accepted(event.id, repeat=answer == 0, replicas=self._replicas)

    async def _accept_all(self, pending: Sequence[_Pending]) -> list[int]:
        """In the order they came, in calls of a bounded size, as an event may carry a whole video."""
        answers: list[int] = []
        for together in _by_size(pending):
            answers += await self._accept_together(together)
        return answers

    async def _accept_together(self, pending: Sequence[_Pending]) -> list[int]:
        by_partition: dict[int, list[int]] = {}
        for i, one in enumerate(pending):
            by_partition.setdefault(partition_of(one.event.ordering_key), []).append(i)
        batches = [_Batch(partition, [pending[i] for i in chosen]) for partition, chosen in by_partition.items()]
        also: list[Sequence[Arg]] = [*_wakes(batches), *([self._wait] if self._replicas else [])]
        results = await self._stored([batch.call() for batch in batches], also)
        answers = [0] * len(pending)
        for chosen, batch, results_of_batch in zip(by_partition.values(), batches, results, strict=True):
            for i, answer in zip(chosen, batch.answers(results_of_batch), strict=True):
                answers[i] = answer
        return answers

    async def _stored(self, calls: list[Call], also: list[Sequence[Arg]]) -> list[list[int]]:
        if self._replicas:
            # EVAL and not EVALSHA: the store would send a script that the server has forgotten again, behind the WAIT.
            results = await self._store.run_all(
                (), [*(by_text(call.script, call.keys, call.args) for call in calls), *also]
            )
            if results[-1] < self._replicas:
                raise NotReplicated(f"{results[-1]} of {self._replicas} replicas had it in time")
        else:
            results = await self._store.run_all(calls, also)
        return list(results[: len(calls)])


class _Batch:
    """The events that are stored in one partition by one call."""

    def __init__(self, partition: int, pending: Sequence[_Pending]) -> None:
        self.partition = partition
        self._pending = pending
        self._number: dict[str, int] = {}
        """By endpoint: its number in the script's arguments and answers, from 1 on."""
        self._destinations: list[Destination] = []
        for one in pending:
            for destination in one.destinations:
                if destination.endpoint not in self._number:
                    self._destinations.append(destination)
                    self._number[destination.endpoint] = len(self._destinations)

    @property
    def endpoints(self) -> list[str]:
        return list(self._number)

    def call(self) -> Call:
        keys = shared_keys(self.partition)
        keep_history = any(destination.keep_history for destination in self._destinations)
        args: list[Arg] = [len(self._destinations), MAX_HISTORY if keep_history else 0]
        for destination in self._destinations:
            keys += own_keys(destination.endpoint, self.partition)
            args += (-(-destination.max_events // PARTITIONS), -(-destination.max_bytes // PARTITIONS))
            args.append("session" if destination.in_order else "none")
        keys.append(endpoints_key(self.partition))
        for one in self._pending:
            event = one.event
            args += (LANE_LETTERS[event.lane], event.ordering_key, event.id)
            args += (int(event.dedupe_window * 1000), _delay(event), int(event.ttl * 1000))
            args += (event.coalesce_key, self._numbers(one), one.content)
        return Call(_ACCEPT, keys, args)

    def _numbers(self, one: _Pending) -> str:
        return " ".join(str(self._number[destination.endpoint]) for destination in one.destinations)

    def answers(self, results: Sequence[int]) -> Iterator[int]:
        """Of the script; a refusal names the full endpoint by its number among the event's own destinations."""
        for one, answer in zip(self._pending, results, strict=True):
            if answer < 0:
                full = self._destinations[-answer - 1].endpoint
                yield -1 - [destination.endpoint for destination in one.destinations].index(full)
            else:
                yield answer


def _delay(event: Event) -> Arg:
    ms, by = int(event.delay * 1000), event.delayed_by
    if by is None or ms == 0:
        return ms
    return f"{ms} {by.limit} {microseconds(by.interval)} {by.burst} {int(by.others * 1000)}"


def _wakes(batches: Sequence[_Batch]) -> list[tuple[Arg, ...]]:
    partitions: dict[str, list[str]] = {}
    for batch in batches:
        for endpoint in batch.endpoints:
            partitions.setdefault(endpoint, []).append(str(batch.partition))
    return [("PUBLISH", wake_channel(endpoint), ",".join(numbers)) for endpoint, numbers in partitions.items()]


def _by_size(pending: Sequence[_Pending]) -> Iterator[list[_Pending]]:
    """Consecutive events, together of at most 4 MiB or a single one."""
    together: list[_Pending] = []
    size = 0
    for one in pending:
        if together and size + len(one.content) > _MAX_CALL:
            yield together
            together, size = [], 0
        together.append(one)
        size += len(one.content)
    if together:
        yield together
