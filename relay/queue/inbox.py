"""The way in: events are stored, each once, for all the endpoints they are for.

Concurrent callers share a round trip. All rules are in `relay/queue/lua/accept.lua`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.queue.codec import Event, pack
from relay.queue.errors import BacklogFull, NotReplicated
from relay.queue.layout import MAX_HISTORY, PARTITIONS, own_keys, partition_of, shared_keys, wake_channel
from sluice.store.client import Arg, Call, Store, StoreAway, load_script
from sluice.store.protocol.errors import Full
from sluice.store.shared_calls import SharedCalls

_ACCEPT = load_script("relay.queue", "events", "accept")
_SHARED, _WAITING = 64, 4096
_MAX_CALL = 4 * 1024 * 1024
_PATIENCE = 3.0  # seconds a producer is held while the store is away: a restart takes less, and producers may not retry
_AWAY_FOR = 0.25  # seconds between two tries after that


@dataclass(frozen=True, slots=True)
class Accepted:
    id: str
    repeat: bool
    """True: this id was accepted before, and was not stored again."""
    replicas: int = 0
    """So many of the store's replicas have it, too; 0: it was not asked for."""


@dataclass(frozen=True, slots=True)
class Destination:
    """An endpoint that an event is for, and how much may wait for it, its dead letters included."""

    endpoint: str
    max_bytes: int
    max_events: int
    in_order: bool = True
    """Per session; else no event waits for another."""
    keep_history: bool = True
    """Whether its events stay findable when they have left."""


@dataclass(frozen=True, slots=True)
class _Given:
    event: Event
    destinations: tuple[Destination, ...]
    content: bytes


class Inbox:
    """One for all endpoints: what comes in together is stored together.

    `replicas` must have an event, too, before it is accepted (WAIT), within `replicas_within` seconds. Then `store` is
    to be a connection of the inbox's own: what is behind a WAIT on it waits along. Not on a cluster, where WAIT is for
    one server of many.
    """

    def __init__(self, store: Store, *, replicas: int = 0, replicas_within: float = 0.5) -> None:
        self._store = store
        self._replicas = replicas
        self._wait = ("WAIT", replicas, int(replicas_within * 1000))
        self._accepts: SharedCalls[_Given, int] = SharedCalls(self._accept_all, size=_SHARED, waiting=_WAITING)
        self._away = False
        self._try_again = 0.0

    async def accept(self, event: Event, destinations: Sequence[Destination]) -> Accepted:
        """Stores an event for one or more endpoints. When this returns, it is stored as the store's promise says.

        While the store is away, callers are held for up to three seconds in the order they came. Raises StoreAway
        (it may or may not be stored; a repeat with the same id is harmless), StoreRefused, or BacklogFull.
        """
        given = _Given(event, tuple(destinations), pack(event))
        try:
            answer = await self._accepts.ask(given)
        except Full:
            raise BacklogFull(destinations[0].endpoint) from None
        if answer < 0:
            raise BacklogFull(destinations[-answer - 1].endpoint)
        return Accepted(event.id, repeat=answer == 0, replicas=self._replicas)

    async def _accept_all(self, given: Sequence[_Given]) -> list[int]:
        """In the order they came, in calls of a bounded size: an event may carry a whole video."""
        answers: list[int] = []
        for together in _by_size(given):
            answers += await self._accept_together(together)
        return answers

    async def _accept_together(self, given: Sequence[_Given]) -> list[int]:
        by_partition: dict[int, list[int]] = {}
        for i, one in enumerate(given):
            by_partition.setdefault(partition_of(one.event.ordering_key), []).append(i)
        batches = [_Batch(partition, [given[i] for i in chosen]) for partition, chosen in by_partition.items()]
        also: list[Sequence[Arg]] = [*_wakes(batches), *([self._wait] if self._replicas else [])]
        results = await self._held_while_away([batch.call() for batch in batches], also)
        answers = [0] * len(given)
        for chosen, batch, told in zip(by_partition.values(), batches, results, strict=True):
            for i, answer in zip(chosen, batch.answers(told), strict=True):
                answers[i] = answer
        return answers

    async def _held_while_away(self, calls: list[Call], also: list[Sequence[Arg]]) -> list[list[int]]:
        """Tried again here and not by each caller, so that what came later is not stored earlier.

        Only the first call of an outage waits: those behind it must not add up their waits.
        """
        deadline = time.monotonic() + (0.0 if self._away else _PATIENCE)
        if self._away and time.monotonic() < self._try_again:
            raise StoreAway("the store did not answer a moment ago")
        while True:
            try:
                return await self._stored(calls, also)
            except StoreAway:
                if time.monotonic() >= deadline:
                    self._away, self._try_again = True, time.monotonic() + _AWAY_FOR
                    raise
                await asyncio.sleep(0.05)

    async def _stored(self, calls: list[Call], also: list[Sequence[Arg]]) -> list[list[int]]:
        if self._replicas:
            # Whole: a script that the server has forgotten would be sent again by the store, behind the WAIT.
            whole = [("EVAL", call.script.text, len(call.keys), *call.keys, *call.args) for call in calls]
            results = await self._store.run_all((), [*whole, *also])
            if results[-1] < self._replicas:
                raise NotReplicated(f"{results[-1]} of {self._replicas} replicas have it in time")
        else:
            results = await self._store.run_all(calls, also)
        self._away = False
        return list(results[: len(calls)])


class _Batch:
    """What goes into one partition in one call."""

    def __init__(self, partition: int, given: Sequence[_Given]) -> None:
        self.partition = partition
        self._given = given
        self._number: dict[str, int] = {}
        """Of each endpoint, as the script counts them."""
        self._places: list[Destination] = []
        for one in given:
            for place in one.destinations:
                if place.endpoint not in self._number:
                    self._places.append(place)
                    self._number[place.endpoint] = len(self._places)

    @property
    def endpoints(self) -> list[str]:
        return list(self._number)

    def call(self) -> Call:
        declared = shared_keys(self.partition)
        args: list[Arg] = [len(self._places), MAX_HISTORY if any(place.keep_history for place in self._places) else 0]
        for place in self._places:
            declared += own_keys(place.endpoint, self.partition)
            args += (-(-place.max_events // PARTITIONS), -(-place.max_bytes // PARTITIONS))
            args.append("s" if place.in_order else "n")
        for one in self._given:
            event = one.event
            args += (event.lane, event.ordering_key, event.id, int(event.remember * 1000), int(event.delay * 1000))
            args += (int(event.ttl * 1000), event.keep, self._numbers(one), one.content)
        return Call(_ACCEPT, declared, args)

    def _numbers(self, given: _Given) -> str:
        return " ".join(str(self._number[place.endpoint]) for place in given.destinations)

    def answers(self, told: Sequence[int]) -> Iterator[int]:
        """As the script told them; one that is refused by the place, counted in the event's own places."""
        for one, answer in zip(self._given, told, strict=True):
            if answer < 0:
                full = self._places[-answer - 1].endpoint
                yield -1 - [place.endpoint for place in one.destinations].index(full)
            else:
                yield answer


def _wakes(batches: Sequence[_Batch]) -> list[tuple[Arg, ...]]:
    partitions: dict[str, list[str]] = {}
    for batch in batches:
        for endpoint in batch.endpoints:
            partitions.setdefault(endpoint, []).append(str(batch.partition))
    return [("PUBLISH", wake_channel(endpoint), ",".join(numbers)) for endpoint, numbers in partitions.items()]


def _by_size(given: Sequence[_Given]) -> Iterator[list[_Given]]:
    """Consecutive events, together of at most 4 MiB or a single one."""
    together: list[_Given] = []
    size = 0
    for one in given:
        if together and size + len(one.content) > _MAX_CALL:
            yield together
            together, size = [], 0
        together.append(one)
        size += len(one.content)
    if together:
        yield together
