"""Dead letters: found, shown, replayed and dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Annotated

from gateway.outbox.results import Results
from relay.policies import OUTBOX
from relay.queue import newest
from relay.queue.dead_letter_filter import Filter
from relay.queue.dead_letter_pages import DeadLetter, DeadPlace, by_ids, oldest_first
from relay.queue.dead_letters import DeadLetters, partition_times
from relay.queue.locating import whole_event
from sluice.config.problems import quoted
from sluice.console.actions.bodies import content_of, masked
from sluice.console.actions.deployment import (
    Deployment,
    Problem,
    ProblemKind,
    invalid,
    moment,
    not_found,
)
from sluice.console.actions.paging import cursor, endpoint_names, read_cursor
from sluice.console.actions.selection import unsaid
from sluice.http.decode import Bounds

MAX_AT_ONCE = 1000
"""Letters that one call replays or drops."""
MAX_FOUND = 1000
"""Letters on one page."""
ANY_ENDPOINT = "-"
_MAX_KINDS = 20
_MAX_LOOKED_AT = 10_000  # letters in one call that finds some
_MAX_NAMED = 10  # ids in a message
_REASON = 80  # characters of a reason by which letters are of one kind

Found = tuple[str, DeadLetter]
"""A letter, and the endpoint that did not get it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """All that are given must hold."""

    endpoint: str | None = None
    session: str | None = None
    event: str | None = None
    """An event type or a glob."""
    since: datetime | None = None
    """Died then or later."""
    until: datetime | None = None
    """Died before it."""
    reason: str | None = None
    """Died of something with this in it, in any case."""
    text: str | None = None
    """With this in body, path or headers, in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindDeadLetters(Criteria):
    limit: Annotated[int, Bounds(1, MAX_FOUND)] = 100
    after: str | None = None
    """The `next` of the page before."""


@dataclass(frozen=True, slots=True)
class ShowDeadLetter:
    endpoint: str
    """`-`: the one endpoint at which it is dead."""
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayDeadLetters(Criteria):
    """Which are meant must be said: by ids, by criteria, or by `all`."""

    ids: Annotated[tuple[str, ...], Bounds(0, MAX_AT_ONCE)] = ()
    all: bool = False
    """All that the criteria leave."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    limit: Annotated[int, Bounds(1, MAX_AT_ONCE)] = MAX_AT_ONCE
    """While some are left, ask again with the `until` of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDeadLetters(ReplayDeadLetters):
    confirm: bool = False
    """Dropping erases for good, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class DeadLetterSummary:
    id: str
    endpoint: str
    event: str
    session: str | None
    accepted_at: datetime
    died_at: datetime
    reason: str
    target: str
    """The path it was sent to."""
    bytes: int
    """Of its body."""
    sequence: int
    """In the order of these the events of a session are sent."""


@dataclass(frozen=True, slots=True)
class DeadLetterDetails(DeadLetterSummary):
    headers: tuple[tuple[str, str], ...]
    body: str | None
    body_base64: str | None
    """The body where it is not text."""


@dataclass(frozen=True, slots=True)
class FoundDeadLetters:
    letters: tuple[DeadLetterSummary, ...]
    """Oldest first, by when they died."""
    next: str | None
    """Ask again with it as `after`; null: there are no more. A page may hold fewer than `limit`, or none."""


@dataclass(frozen=True, slots=True)
class DeadLetterKind:
    count: int
    endpoint: str
    event: str
    reason: str
    """The beginning of its first line."""


@dataclass(frozen=True, slots=True)
class _Meant:
    left: int
    """How many of those that are meant this call has not handled."""
    until: datetime
    """Before this moment those died that are meant; what dies again later is left alone."""
    kinds: tuple[DeadLetterKind, ...]
    """What was meant when the call began, the most frequent first."""
    other_kinds: int
    """How many kinds more there are."""
    superseded: int
    """Of what was meant: a newer event was accepted that makes them harmful, so a replay sends them to nobody."""


@dataclass(frozen=True, slots=True)
class Replayed(_Meant):
    replayed: int
    """How many were still dead."""

    @property
    def done(self) -> int:
        return self.replayed


@dataclass(frozen=True, slots=True)
class Dropped(_Meant):
    dropped: int
    """How many were still dead."""

    @property
    def done(self) -> int:
        return self.dropped


async def find(deployment: Deployment, request: FindDeadLetters) -> FoundDeadLetters | Problem:
    """Find dead letters, oldest first."""
    names = await endpoint_names(deployment, request.endpoint)
    after = None if request.after is None else _place(request.after)
    if isinstance(names, Problem):
        return names
    if isinstance(after, Problem):
        return after
    wanted, last = _filter(request), after
    letters: list[DeadLetterSummary] = []
    looked_at = 0
    bodies = wanted.text is not None
    async for place, letter in oldest_first(deployment.store, names, after, with_bodies=bodies):
        is_wanted = wanted.has(letter)
        if looked_at == _MAX_LOOKED_AT or (is_wanted and len(letters) == request.limit):
            return FoundDeadLetters(tuple(letters), _cursor(last) if last else None)
        if is_wanted:
            letters.append(_summary(place.endpoint, letter))
        last, looked_at = place, looked_at + 1
    return FoundDeadLetters(tuple(letters), None)


async def show(deployment: Deployment, request: ShowDeadLetter) -> DeadLetterDetails | Problem:
    """One dead letter with its headers and its body."""
    endpoint = None if request.endpoint == ANY_ENDPOINT else request.endpoint
    names = await endpoint_names(deployment, endpoint)
    if isinstance(names, Problem):
        return names
    found = [(place.endpoint, letter) for place, letter in await by_ids(deployment.store, names, [request.id])]
    if not found:
        return _unknown([request.id])
    if len(found) > 1:
        where = ", ".join(name for name, _ in found)
        return Problem(ProblemKind.CONFLICT, f"{quoted(request.id)} is dead at {where}; name one endpoint")
    event = await whole_event(deployment.store, found[0][1].partition, request.id)
    if event is None:
        return _unknown([request.id])
    return DeadLetterDetails(**asdict(_summary(*found[0])), **content_of(event))


async def replay(deployment: Deployment, request: ReplayDeadLetters) -> Replayed | Problem:
    """Send dead letters again, in the order in which they were accepted, before younger events of their sessions."""
    if problem := unsaid(request, Criteria, "dead letters", "dead letters"):
        return problem
    endpoints = deployment.policies.relay.endpoints
    if request.endpoint is not None and request.endpoint not in endpoints:
        names = await endpoint_names(deployment, request.endpoint)
        return names if isinstance(names, Problem) else _nobody_sends(request.endpoint)

    async def act(dead: DeadLetters, letters: Sequence[DeadLetter]) -> int:
        if dead.endpoint == OUTBOX:  # else it would be taken for one that was given to a worker
            results = Results(deployment.store, "")
            for letter in letters:
                await results.forget(letter.event.id)
        return await dead.replay(letters)

    outcome = await _act(deployment, request, [*endpoints], act)
    return outcome if isinstance(outcome, Problem) else Replayed(*outcome)


async def drop(deployment: Deployment, request: DropDeadLetters) -> Dropped | Problem:
    """Erase dead letters for good."""
    if not request.confirm and not request.dry_run:
        return invalid("dropping erases for good: set confirm to true, or look first with dry_run set to true")
    if problem := unsaid(request, Criteria, "dead letters", "dead letters"):
        return problem
    names = await endpoint_names(deployment, request.endpoint)
    outcome = names if isinstance(names, Problem) else await _act(deployment, request, names, DeadLetters.drop)
    return outcome if isinstance(outcome, Problem) else Dropped(*outcome)


_Done = tuple[int, datetime, tuple[DeadLetterKind, ...], int, int, int]
"""The fields of a result, in their order."""


async def _act(
    deployment: Deployment,
    request: ReplayDeadLetters,
    endpoints: Sequence[str],
    act: Callable[[DeadLetters, Sequence[DeadLetter]], Awaitable[int]],
) -> _Done | Problem:
    until = request.until or moment(max(await partition_times(deployment.store)))
    wanted = replace(_filter(request), ids=request.ids, until=until.timestamp())
    names = [request.endpoint] if request.endpoint else endpoints
    letters = [(name, _without_content(one)) async for name, one in _matching(deployment, wanted, names)]
    missing = set(request.ids) - {letter.event.id for _, letter in letters}
    if missing and request.until is None:  # with it, an earlier call may have handled them
        return _unknown(sorted(missing))
    kinds, other_kinds = _kinds(letters)
    superseded = 0
    for name in names:
        events = [letter.event for endpoint, letter in letters if endpoint == name]
        superseded += len(await newest.superseded(deployment.store, name, events))
    if request.dry_run:
        return len(letters), until, kinds, other_kinds, superseded, 0
    # Of each endpoint in the order in which they were accepted, so that within a session none overtakes another.
    now = sorted(letters, key=lambda pair: (pair[0], pair[1].sequence))[: request.limit]
    count = 0
    for endpoint in dict.fromkeys(name for name, _ in now):
        count += await act(DeadLetters(deployment.store, endpoint), [one for name, one in now if name == endpoint])
    return len(letters) - len(now), until, kinds, other_kinds, superseded, count


def _without_content(letter: DeadLetter) -> DeadLetter:
    return replace(letter, event=replace(letter.event, body=b"", headers=()))


def _nobody_sends(endpoint: str) -> Problem:
    cure = f"give what lies there to another first: sluice queue move {endpoint} NEW"
    return Problem(ProblemKind.CONFLICT, f"{endpoint} is not an endpoint of the policies, so nothing is sent; {cure}")


def _filter(criteria: Criteria) -> Filter:
    return Filter(
        endpoint=criteria.endpoint,
        session=criteria.session,
        event=criteria.event,
        since=criteria.since.timestamp() if criteria.since else None,
        until=criteria.until.timestamp() if criteria.until else None,
        reason=criteria.reason,
        text=criteria.text,
    )


async def _matching(deployment: Deployment, wanted: Filter, endpoints: Sequence[str]) -> AsyncIterator[Found]:
    """Where ids are given, without a look at any other letter."""
    with_bodies = wanted.text is not None
    if wanted.ids:
        for place, letter in await by_ids(deployment.store, endpoints, wanted.ids):
            event = await whole_event(deployment.store, letter.partition, letter.event.id) if with_bodies else None
            if wanted.has(replace(letter, event=event or letter.event)):
                yield place.endpoint, letter
        return
    async for place, letter in oldest_first(deployment.store, endpoints, with_bodies=with_bodies):
        if wanted.has(letter):
            yield place.endpoint, letter


def _place(text: str) -> DeadPlace | Problem:
    read = read_cursor(text, 2)
    if isinstance(read, Problem):
        return read
    endpoint, (died, partition), entry_id = read
    return DeadPlace(died, endpoint, partition, entry_id)


def _cursor(place: DeadPlace) -> str:
    return cursor(place.endpoint, place.died, place.partition, entry_id=place.entry_id)


def _unknown(ids: Sequence[str]) -> Problem:
    more = f" and {len(ids) - _MAX_NAMED} more" if len(ids) > _MAX_NAMED else ""
    names = ", ".join(map(quoted, ids[:_MAX_NAMED])) + more
    return not_found(f"there is no dead letter {names}; `sluice dead list` shows them")


def _kinds(letters: Sequence[Found]) -> tuple[tuple[DeadLetterKind, ...], int]:
    counts = Counter((endpoint, letter.event.type, first_line(letter.reason)) for endpoint, letter in letters)
    frequent = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_MAX_KINDS]
    kinds = tuple(DeadLetterKind(count, *kind) for kind, count in frequent)
    return kinds, len(counts) - len(kinds)


def first_line(reason: str) -> str:
    return reason.partition("\n")[0][:_REASON]


def _summary(endpoint: str, letter: DeadLetter) -> DeadLetterSummary:
    return DeadLetterSummary(
        id=letter.event.id,
        endpoint=endpoint,
        event=letter.event.type,
        session=letter.event.session,
        accepted_at=moment(letter.event.accepted_at),
        died_at=moment(letter.died_at),
        reason=letter.reason,
        target=masked(letter.event.target.decode("latin-1")),
        bytes=letter.size,
        sequence=letter.sequence,
    )
