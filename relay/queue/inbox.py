"""The way in: events are stored, each once, for all the endpoints they are for.

Concurrent callers share a round trip. All rules are in `relay/queue/lua/accept.lua`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relay.queue.codec import LANE_LETTERS, Event, Superseding, microseconds, pack
from relay.queue.errors import BacklogFull, FenceBeyond, OtherContent, StaleFence
from relay.queue.layout import (
    MAX_HISTORY,
    PARTITIONS,
    endpoints_key,
    fences_key,
    own_keys,
    partition_of,
    shared_keys,
    wake_channel,
)
from relay.queue.newest import Newest
from relay.queue.replicated import Replicated
from relay.queue.usage import Look, Usage, commands_of, read_all
from sluice.store.client import Arg, Call, Store, StoreAway, StoreRefused, load_script
from sluice.store.protocol.errors import Full
from sluice.store.shared_calls import SharedCalls

_ACCEPT = load_script("relay.queue", "events", "lately", "accept")
_MAX_SHARED, _MAX_WAITING = 64, 4096
_MAX_CALL = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Accepted:
    id: str
    repeat: bool
    """True: this id was accepted before, and was not stored again."""
    replicas: int = 0
    """How many of the store's replicas have it, at least; 0: none had to."""
    left_out: tuple[str, ...] = ()
    """The endpoints that do not get it, as their backlogs are full. A repeat brings it to those that have room then."""


@dataclass(frozen=True, slots=True)
class Destination:
    """An endpoint that an event is for, and how much may wait for it in all partitions."""

    endpoint: str
    max_bytes: int
    max_events: int
    in_order: bool = True
    """Within each session; else no event waits for another."""
    keep_history: bool = True
    """Whether its events can still be found after they have left."""
    required: bool = False
    """While it is full an event is refused, and not only left out here."""
    newest: Newest | None = None
    """Where it is noted that it was accepted, if it supersedes others."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """An event that a caller waits to have stored."""

    event: Event
    destinations: tuple[Destination, ...]
    content: bytes
    is_last_try: bool


_Answer = tuple[int, tuple[str, ...], int]
"""Of the script, see there, the endpoints that it left out, and when that was (ms)."""
_REPEAT, _ASK_AGAIN = 0, 3
_REFUSALS: dict[int, type[Exception]] = {4: OtherContent, 5: StaleFence, 6: FenceBeyond}


class Inbox:
    """One for all endpoints: what comes in at the same time is stored in one round trip.

    `replicas`: so many replicas of the store must have an event before it is accepted, within `replicas_within`
    seconds, and what is said of `store` in `Replicated` holds.
    """

    def __init__(self, store: Store, *, replicas: int = 0, replicas_within: float = 0.5) -> None:
        self._store = store
        self._replicated = Replicated(store, replicas=replicas, within=replicas_within)
        self._usage: dict[str, Usage] = {}
        """By endpoint."""
        self._accepts: SharedCalls[_Pending, _Answer] = SharedCalls(
            self._accept_all, size=_MAX_SHARED, waiting=_MAX_WAITING
        )

    async def accept(self, event: Event, destinations: Sequence[Destination], *, is_last_try: bool = True) -> Accepted:
        """Stores an event for those of its endpoints that have room. When this returns, it is stored as the store's
        promise says. Unless it `is_last_try`, a backlog that is full does not count as a refusal.

        Raises StoreAway (it may or may not be stored; a repeat with the same id is harmless), StoreRefused, or
        BacklogFull: none of them has room, or one that is required has not, and nothing was stored; or OtherContent,
        StaleFence or FenceBeyond.
        """
        pending = _Pending(event, tuple(destinations), pack(event), is_last_try)
        try:
            answer, left_out, at = await self._accepts.ask(pending)
        except Full:
            raise StoreAway("too many events wait to be stored") from None
        if answer < 0:
            raise BacklogFull(destinations[-answer - 1].endpoint)
        if answer > _ASK_AGAIN:
            raise _REFUSALS[answer](event.id)
        if event.superseding is not None and answer != _REPEAT:
            await self._note(event, event.superseding, [to for to in destinations if to.endpoint not in left_out], at)
        return Accepted(event.id, repeat=answer == _REPEAT, replicas=self._replicated.replicas, left_out=left_out)

    async def _note(self, event: Event, superseding: Superseding, destinations: Sequence[Destination], at: int) -> None:
        """That older ones are superseded from now on. Should it fail, the relay notes it before it sends the event."""
        calls = [to.newest.accepted(superseding, event.id, at) for to in destinations if to.newest is not None]
        with contextlib.suppress(StoreAway, StoreRefused):
            await self._store.run_all(calls)

    async def _accept_all(self, pending: Sequence[_Pending]) -> list[_Answer]:
        """In the order they came, in calls of a bounded size, as an event may carry a whole video."""
        answers: list[_Answer] = []
        for together in _by_size(pending):
            answers += await self._accept_together(together)
        return answers

    async def _accept_together(self, pending: Sequence[_Pending]) -> list[_Answer]:
        answers = await self._ask(pending)
        for code, *_ in answers:
            if code == _ASK_AGAIN:
                await self._ask_again(pending, answers)
                break
        return answers

    async def _ask_again(self, pending: Sequence[_Pending], answers: list[_Answer]) -> None:
        """About those that depend on what other partitions hold, until all have an answer.

        Each partition takes its part of the room only; when that is less than one event, one of them gets all of it.
        """
        before, is_final = len(pending) + 1, False
        while left := [i for i in range(len(pending)) if answers[i][0] == _ASK_AGAIN]:
            is_final = not is_final and len(left) == before
            if not is_final:
                await self._look(_endpoints_of([pending[i] for i in left]))
            chosen = _of_one_partition(pending, left) if is_final else left
            for i, answer in zip(chosen, await self._ask([pending[i] for i in chosen], is_final=is_final), strict=True):
                answers[i] = answer
            before = len(left)

    async def _ask(self, pending: Sequence[_Pending], *, is_final: bool = False) -> list[_Answer]:
        """One round trip, but for the first event of an endpoint."""
        by_partition: dict[int, list[int]] = {}
        for i, one in enumerate(pending):
            by_partition.setdefault(partition_of(one.event.ordering_key), []).append(i)
        batches = [_Batch(partition, [pending[i] for i in chosen]) for partition, chosen in by_partition.items()]
        now = time.monotonic()
        unknown = [to.endpoint for batch in batches for to in batch.destinations if to.endpoint not in self._usage]
        if unknown:
            await self._look(unknown)
        looks = self._looks_along(batches, now)
        commands: list[Sequence[Arg]] = _wakes(batches)
        first_look = len(batches) + len(commands)
        if looks:
            commands += commands_of(looks)
        calls = [batch.call(self._usage, now, is_final) for batch in batches]
        results = await self._replicated.run_all(calls, commands)
        if looks:
            read_all(looks, results[first_look:], now)
        answers: list[_Answer] = [(_ASK_AGAIN, (), 0)] * len(pending)
        for chosen, batch, result in zip(by_partition.values(), batches, results, strict=False):
            batch.note_usage(self._usage, result)
            for i, answer in zip(chosen, batch.answers(result), strict=True):
                answers[i] = answer
        return answers

    def _looks_along(self, batches: Sequence[_Batch], now: float) -> list[Look]:
        """At what is due, so that nobody has to ask for it."""
        due: dict[str, list[int]] = {}
        for batch in batches:
            for to in batch.destinations:
                if self._usage[to.endpoint].is_due(to.max_events, to.max_bytes, now):
                    due.setdefault(to.endpoint, []).append(batch.partition)
        return [Look(self._usage[endpoint], answering) for endpoint, answering in due.items()]

    async def _look(self, endpoints: Sequence[str]) -> None:
        """At all partitions, in a round trip of its own."""
        now, usages = time.monotonic(), {name: self._usage.get(name) or Usage(name) for name in endpoints}
        looks = [Look(usage) for usage in usages.values()]
        read_all(looks, await self._store.run_all((), commands_of(looks)), now)
        self._usage.update(usages)


class _Batch:
    """The events that are stored in one partition by one call."""

    def __init__(self, partition: int, pending: Sequence[_Pending]) -> None:
        self.partition = partition
        self._pending = pending
        self._number: dict[str, int] = {}
        """By endpoint: its number in the script's arguments and answers, from 1 on."""
        self.destinations: list[Destination] = []
        for one in pending:
            for destination in one.destinations:
                if destination.endpoint not in self._number:
                    self.destinations.append(destination)
                    self._number[destination.endpoint] = len(self.destinations)

    @property
    def endpoints(self) -> list[str]:
        return list(self._number)

    def call(self, usage: dict[str, Usage], now: float, is_final: bool) -> Call:
        keys = shared_keys(self.partition)
        keep_history = any(destination.keep_history for destination in self.destinations)
        args: list[Arg] = [len(self.destinations), MAX_HISTORY if keep_history else 0, PARTITIONS]
        for destination in self.destinations:
            keys += own_keys(destination.endpoint, self.partition)
            known, most = usage[destination.endpoint], (destination.max_events, destination.max_bytes)
            args += known.budget(self.partition, most, destination.required, is_final, now)
            args.append("session" if destination.in_order else "none")
        keys += (endpoints_key(self.partition), fences_key(self.partition))
        for one in self._pending:
            event = one.event
            args += (LANE_LETTERS[event.lane], event.ordering_key, event.id)
            args += (int(event.dedupe_window * 1000), _delay(event), int(event.ttl * 1000))
            args += (event.coalesce_key, self._numbers(one), one.content, _more(event))
        return Call(_ACCEPT, keys, args)

    def _numbers(self, one: _Pending) -> str:
        numbers = " ".join(str(self._number[destination.endpoint]) for destination in one.destinations)
        return numbers if one.is_last_try else f"~{numbers}"

    def note_usage(self, usage: dict[str, Usage], results: Sequence[Any]) -> None:
        """Of what the script answers behind the events' own answers."""
        at = len(self._pending)
        for i, destination in enumerate(self.destinations):
            usage[destination.endpoint].note(self.partition, results[at + 2 * i], results[at + 2 * i + 1])

    def answers(self, results: Sequence[Any]) -> Iterator[_Answer]:
        """Of the script; a refusal names the full endpoint by its number among the event's own destinations."""
        at = results[-1]
        for one, answer in zip(self._pending, results, strict=False):
            if isinstance(answer, list):
                yield answer[0], tuple([self.destinations[number - 1].endpoint for number in answer[1:]]), at
            elif answer < 0:
                full = self.destinations[-answer - 1].endpoint
                yield -1 - [destination.endpoint for destination in one.destinations].index(full), (), at
            else:
                yield answer, (), at


def _delay(event: Event) -> Arg:
    ms, by = int(event.delay * 1000), event.delayed_by
    if by is None or ms == 0:
        return ms
    return f"{ms} {by.limit} {microseconds(by.interval)} {by.burst} {int(by.others * 1000)}"


def _more(event: Event) -> str:
    """What few events have."""
    first = event.goes_first
    if first is None:
        return f"{event.digest}\1{event.fence or ''}\1" if event.digest or event.fence else ""
    return f"{event.digest}\1{event.fence or ''}\1{first.which} {int(first.within * 1000)}"


def _endpoints_of(pending: Sequence[_Pending]) -> list[str]:
    return [destination.endpoint for one in pending for destination in one.destinations]


def _of_one_partition(pending: Sequence[_Pending], left: Sequence[int]) -> list[int]:
    """The first of those that are left, and what else is in its partition."""
    partition = partition_of(pending[left[0]].event.ordering_key)
    return [i for i in left if partition_of(pending[i].event.ordering_key) == partition]


def _wakes(batches: Sequence[_Batch]) -> list[Sequence[Arg]]:
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
