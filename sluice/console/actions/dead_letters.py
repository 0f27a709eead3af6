"""Dead letters: found, shown, replayed and dropped."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Annotated

from relay.queue.dead_letter_filter import Filter
from relay.queue.dead_letters import DeadLetter, DeadLetters, partition_times
from sluice.config.problems import quoted
from sluice.console.actions.deployment import (
    Deployment,
    Problem,
    ProblemKind,
    invalid,
    moment,
    not_found,
    unknown_endpoint,
)
from sluice.console.decode import Bounds

MAX_AT_ONCE = 1000
"""Letters that one call replays or drops."""
ANY_ENDPOINT = "-"
_MAX_KINDS = 20
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
    limit: Annotated[int, Bounds(1, 10_000)] = 100


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
    more: bool
    """There are more than `limit`."""


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
    if problem := _endpoint_problem(deployment, request.endpoint):
        return problem
    oldest: list[DeadLetterSummary] = []
    async for endpoint, letter in _matching(deployment, _filter(request)):
        oldest.append(_summary(endpoint, letter))
        if len(oldest) > 2 * request.limit:
            oldest = sorted(oldest, key=_age)[: request.limit + 1]
    return FoundDeadLetters(tuple(sorted(oldest, key=_age)[: request.limit]), len(oldest) > request.limit)


async def show(deployment: Deployment, request: ShowDeadLetter) -> DeadLetterDetails | Problem:
    """One dead letter with its headers and its body."""
    endpoint = None if request.endpoint == ANY_ENDPOINT else request.endpoint
    if problem := _endpoint_problem(deployment, endpoint):
        return problem
    found = [pair async for pair in _matching(deployment, Filter(ids=(request.id,), endpoint=endpoint))]
    if not found:
        return _unknown([request.id])
    if len(found) > 1:
        names = ", ".join(name for name, _ in found)
        return Problem(ProblemKind.CONFLICT, f"{quoted(request.id)} is dead at {names}; name one endpoint")
    return _details(*found[0])


async def replay(deployment: Deployment, request: ReplayDeadLetters) -> Replayed | Problem:
    """Send dead letters again, in the order in which they were accepted, before younger events of their sessions."""
    outcome = await _act(deployment, request, DeadLetters.replay)
    return outcome if isinstance(outcome, Problem) else Replayed(*outcome)


async def drop(deployment: Deployment, request: DropDeadLetters) -> Dropped | Problem:
    """Erase dead letters for good."""
    if not request.confirm and not request.dry_run:
        return invalid("dropping erases for good: set confirm to true, or look first with dry_run set to true")
    outcome = await _act(deployment, request, DeadLetters.drop)
    return outcome if isinstance(outcome, Problem) else Dropped(*outcome)


_Done = tuple[int, datetime, tuple[DeadLetterKind, ...], int, int]
"""The fields of a result, in their order."""


async def _act(
    deployment: Deployment,
    request: ReplayDeadLetters,
    act: Callable[[DeadLetters, Sequence[DeadLetter]], Awaitable[int]],
) -> _Done | Problem:
    if problem := _unsaid(request) or _endpoint_problem(deployment, request.endpoint):
        return problem
    until = request.until or moment(max(await partition_times(deployment.store)))
    wanted = replace(_filter(request), ids=request.ids, until=until.timestamp())
    letters = [(name, _without_content(one)) async for name, one in _matching(deployment, wanted)]
    missing = set(request.ids) - {letter.event.id for _, letter in letters}
    if missing and request.until is None:  # with it, an earlier call may have handled them
        return _unknown(sorted(missing))
    kinds, other_kinds = _kinds(letters)
    if request.dry_run:
        return len(letters), until, kinds, other_kinds, 0
    # Of each endpoint in the order in which they were accepted, so that within a session none overtakes another.
    now = sorted(letters, key=lambda pair: (pair[0], pair[1].sequence))[: request.limit]
    count = 0
    for endpoint in dict.fromkeys(name for name, _ in now):
        count += await act(DeadLetters(deployment.store, endpoint), [one for name, one in now if name == endpoint])
    return len(letters) - len(now), until, kinds, other_kinds, count


def _without_content(letter: DeadLetter) -> DeadLetter:
    return replace(letter, event=replace(letter.event, body=b"", headers=()))


def _unsaid(request: ReplayDeadLetters) -> Problem | None:
    given = [field.name for field in fields(Criteria) if getattr(request, field.name) is not None]
    if request.ids and request.all:
        return invalid("ids and all exclude each other: name the dead letters, or mean all of them")
    if not (request.ids or request.all or given):
        names = ", ".join(field.name for field in fields(Criteria))
        return invalid(f"say which dead letters are meant: by ids, by {names}, or by all")
    return None


def _endpoint_problem(deployment: Deployment, endpoint: str | None) -> Problem | None:
    endpoints = deployment.policies.relay.endpoints
    return None if endpoint is None or endpoint in endpoints else unknown_endpoint(endpoint, endpoints)


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


async def _matching(deployment: Deployment, wanted: Filter) -> AsyncIterator[Found]:
    for name in [wanted.endpoint] if wanted.endpoint else deployment.policies.relay.endpoints:
        async for letter in DeadLetters(deployment.store, name).all():
            if wanted.has(letter):
                yield name, letter


def _unknown(ids: Sequence[str]) -> Problem:
    more = f" and {len(ids) - _MAX_NAMED} more" if len(ids) > _MAX_NAMED else ""
    names = ", ".join(map(quoted, ids[:_MAX_NAMED])) + more
    return not_found(f"there is no dead letter {names}; `sluice dead list` shows them")


def _kinds(letters: Sequence[Found]) -> tuple[tuple[DeadLetterKind, ...], int]:
    counts = Counter((endpoint, letter.event.type, first_line(letter.reason)) for endpoint, letter in letters)
    kinds = tuple(DeadLetterKind(count, *kind) for kind, count in counts.most_common(_MAX_KINDS))
    return kinds, len(counts) - len(kinds)


def first_line(reason: str) -> str:
    return reason.partition("\n")[0][:_REASON]


def _age(letter: DeadLetterSummary) -> datetime:
    return letter.died_at


def _summary(endpoint: str, letter: DeadLetter) -> DeadLetterSummary:
    return DeadLetterSummary(
        id=letter.event.id,
        endpoint=endpoint,
        event=letter.event.type,
        session=letter.event.session,
        accepted_at=moment(letter.event.accepted_at),
        died_at=moment(letter.died_at),
        reason=letter.reason,
        target=letter.event.target.decode("latin-1"),
        bytes=len(letter.event.body),
    )


def _details(endpoint: str, letter: DeadLetter) -> DeadLetterDetails:
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in letter.event.headers)
    try:
        body, encoded = letter.event.body.decode(), None
    except UnicodeDecodeError:
        body, encoded = None, base64.b64encode(letter.event.body).decode()
    about = asdict(_summary(endpoint, letter))
    return DeadLetterDetails(**about, headers=headers, body=body, body_base64=encoded)
