"""What waits for the endpoints: listed, shown, skipped and dropped by people.

A list is answered a page at a time, and each call looks at a bounded number of events: whoever wants them all asks
again with the `next` of the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from relay.queue.codec import Lane
from relay.queue.dead_letters import partition_times
from relay.queue.locating import locate, whole_event
from relay.queue.waiting import Place, Removal, Waiting, WaitingEvent
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
"""Events that one call skips or drops."""
ANY_ENDPOINT = "-"
_MAX_LOOKED_AT = 10_000  # events in one call
_PAGE = 500
_MS = 0.001  # what was accepted in this very millisecond is there
_MAX_KINDS = 20
_MAX_NAMED = 10  # ids in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCriteria:
    """All that are given must hold."""

    endpoint: str | None = None
    """Also one that the policies do not name any more."""
    session: str | None = None
    event: str | None = None
    """An event type or a glob."""
    since: datetime | None = None
    """Accepted then or later."""
    until: datetime | None = None
    """Accepted before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListWaiting(WaitingCriteria):
    limit: Annotated[int, Bounds(1, MAX_AT_ONCE)] = 100
    after: str | None = None
    """The `next` of the page before."""


@dataclass(frozen=True, slots=True)
class ShowWaiting:
    endpoint: str
    """`-`: the one endpoint that it waits for."""
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipWaiting(WaitingCriteria):
    """Which are meant must be said: by ids, by criteria, or by `all`."""

    ids: Annotated[tuple[str, ...], Bounds(0, MAX_AT_ONCE)] = ()
    all: bool = False
    """All that the criteria leave."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    limit: Annotated[int, Bounds(1, MAX_AT_ONCE)] = MAX_AT_ONCE
    after: str | None = None
    """The `next` of the call before; give its `until` as well, so that what comes meanwhile is left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropWaiting(SkipWaiting):
    confirm: bool = False
    """Dropping erases for good, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class WaitingSummary:
    id: str
    endpoint: str
    event: str
    session: str | None
    lane: Lane
    state: Literal["waiting", "leased"]
    """leased: somebody is delivering it right now."""
    accepted_at: datetime
    due_at: datetime
    """When its session is to go on: the end of a delay, of a backoff, or of the lease."""
    due_in_s: float
    """Seconds until then; 0: it is due."""
    failed: int
    """Attempts so far that count."""
    reason: str | None
    """What came of the last attempt."""
    target: str
    """The path it is sent to."""
    bytes: int
    """Of its body."""


@dataclass(frozen=True, slots=True)
class WaitingDetails(WaitingSummary):
    headers: tuple[tuple[str, str], ...]
    body: str | None
    body_base64: str | None
    """The body where it is not text."""


@dataclass(frozen=True, slots=True)
class ListedWaiting:
    events: tuple[WaitingSummary, ...]
    """By endpoint; within a session in the order in which they are sent."""
    next: str | None
    """Ask again with it as `after`; null: there are no more. A page may hold fewer than `limit`, or none."""


@dataclass(frozen=True, slots=True)
class WaitingKind:
    count: int
    endpoint: str
    event: str


@dataclass(frozen=True, slots=True)
class _Taken:
    meant: int
    """How many this call met that are meant."""
    leased: int
    """Of those: left alone, as somebody is delivering them right now."""
    until: datetime
    """What was accepted then or later is left alone."""
    next: str | None
    """Ask again with it as `after`; null: all that are meant were met."""
    kinds: tuple[WaitingKind, ...]
    """Of those that were met, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Skipped(_Taken):
    skipped: int

    @property
    def done(self) -> int:
        return self.skipped


@dataclass(frozen=True, slots=True)
class DroppedWaiting(_Taken):
    dropped: int

    @property
    def done(self) -> int:
        return self.dropped


_Found = tuple[str, WaitingEvent]
"""An event, and the endpoint that it waits for."""


async def find(deployment: Deployment, request: ListWaiting) -> ListedWaiting | Problem:
    """List what waits, a page at a time."""
    place = await _begin(deployment, request, request.after)
    if isinstance(place, Problem):
        return place
    found, following = await _page(deployment, request, place, request.limit)
    return ListedWaiting(tuple(_summary(endpoint, one) for endpoint, one in found), following)


async def show(deployment: Deployment, request: ShowWaiting) -> WaitingDetails | Problem:
    """One event that waits, with its headers and its body."""
    endpoint = None if request.endpoint == ANY_ENDPOINT else request.endpoint
    names = await endpoint_names(deployment, endpoint)
    if isinstance(names, Problem):
        return names
    found = await _by_ids(deployment, names, [request.id])
    if not found:
        return _unknown([request.id])
    if len(found) > 1:
        where = ", ".join(name for name, _ in found)
        return Problem(ProblemKind.CONFLICT, f"{quoted(request.id)} waits for {where}; name one endpoint")
    event = await whole_event(deployment.store, found[0][1].place.partition, request.id)
    if event is None:
        return _unknown([request.id])
    return WaitingDetails(**asdict(_summary(*found[0])), **content_of(event))


async def skip(deployment: Deployment, request: SkipWaiting) -> Skipped | Problem:
    """Make dead letters of events that wait, so that their sessions go on; they can be replayed later."""
    outcome = await _take(deployment, request, "skip")
    return outcome if isinstance(outcome, Problem) else Skipped(*outcome)


async def drop(deployment: Deployment, request: DropWaiting) -> DroppedWaiting | Problem:
    """Erase events that wait for good."""
    if not request.confirm and not request.dry_run:
        return invalid("dropping erases for good: set confirm to true, or look first with dry_run set to true")
    outcome = await _take(deployment, request, "drop")
    return outcome if isinstance(outcome, Problem) else DroppedWaiting(*outcome)


_Outcome = tuple[int, int, datetime, str | None, tuple[WaitingKind, ...], int]
"""The fields of a result, in their order."""


async def _take(deployment: Deployment, request: SkipWaiting, how: Removal) -> _Outcome | Problem:
    if problem := unsaid(request, WaitingCriteria, "events", "waiting events"):
        return problem
    place = await _begin(deployment, request, request.after)
    if isinstance(place, Problem):
        return place
    until = request.until or moment(max(await partition_times(deployment.store)) + _MS)
    following = None
    if request.ids:
        names = await endpoint_names(deployment, request.endpoint)
        found = [] if isinstance(names, Problem) else await _by_ids(deployment, names, request.ids)
        missing = set(request.ids) - {one.event.id for _, one in found}
        if missing:
            return _unknown(sorted(missing))
        found = [pair for pair in found if _has(request, until, pair[1])]
    else:
        found, following = await _page(deployment, request, place, request.limit, until)
    kinds, leased, taken = _kinds(found), sum(one.leased for _, one in found), 0
    if not request.dry_run:
        leased = 0
        for endpoint in dict.fromkeys(name for name, _ in found):
            places = [one.place for name, one in found if name == endpoint]
            removed = await Waiting(deployment.store, endpoint).remove(places, how)
            taken, leased = taken + removed.taken, leased + removed.leased
    return len(found), leased, until, following, kinds, taken


# --- pages

_Start = tuple[list[str], Place | None]
"""The endpoints from the first to look at on, and the place in its queue after which to begin."""


async def _begin(deployment: Deployment, criteria: WaitingCriteria, after: str | None) -> _Start | Problem:
    names = await endpoint_names(deployment, criteria.endpoint)
    if isinstance(names, Problem) or after is None:
        return names if isinstance(names, Problem) else (names, None)
    read = read_cursor(after, 1)
    if isinstance(read, Problem):
        return read
    name, (partition,), entry_id = read
    rest = [one for one in names if one >= name]
    return rest, Place(partition, entry_id) if rest[:1] == [name] else None


def _cursor(endpoint: str, place: Place) -> str:
    return cursor(endpoint, place.partition, entry_id=place.entry_id)


async def _page(
    deployment: Deployment, criteria: WaitingCriteria, start: _Start, limit: int, until: datetime | None = None
) -> tuple[list[_Found], str | None]:
    """Up to `limit` that are meant, and where the next page begins; None: nothing follows."""
    names, after = start
    found: list[_Found] = []
    looked_at, last = 0, None
    async for endpoint, places in _all(deployment, names, after, criteria.session, min(_PAGE, limit + 1)):
        if last is not None and (len(found) >= limit or looked_at >= _MAX_LOOKED_AT):
            return found, _cursor(*last)
        for one in await Waiting(deployment.store, endpoint).read(places):
            if _has(criteria, until or criteria.until, one):
                if len(found) >= limit:
                    return found, _cursor(*last) if last else None
                found.append((endpoint, one))
            last = endpoint, one.place
        last = endpoint, places[-1]
        looked_at += len(places)
    return found, None


async def _all(
    deployment: Deployment, names: Sequence[str], after: Place | None, session: str | None, page: int
) -> AsyncIterator[tuple[str, list[Place]]]:
    for i, endpoint in enumerate(names):
        queue = Waiting(deployment.store, endpoint)
        async for places in queue.places(after if i == 0 else None, session, page):
            yield endpoint, places


async def _by_ids(deployment: Deployment, names: Sequence[str], ids: Sequence[str]) -> list[_Found]:
    places: dict[tuple[str, int], list[Place]] = {}
    for one in await locate(deployment.store, names, ids):
        if one.died_at is None:
            places.setdefault((one.endpoint, one.partition), []).append(Place(one.partition, one.entry_id))
    return [
        (endpoint, one)
        for (endpoint, _), some in places.items()
        for one in await Waiting(deployment.store, endpoint).read(some)
    ]


def _has(criteria: WaitingCriteria, until: datetime | None, one: WaitingEvent) -> bool:
    event = one.event
    return (
        (criteria.session is None or event.session == criteria.session)
        and (criteria.event is None or fnmatchcase(event.type, criteria.event))
        and (criteria.since is None or event.accepted_at >= criteria.since.timestamp())
        and (until is None or event.accepted_at < until.timestamp())
    )


def _kinds(found: Sequence[_Found]) -> tuple[WaitingKind, ...]:
    counts = Counter((endpoint, one.event.type) for endpoint, one in found)
    return tuple(WaitingKind(count, *kind) for kind, count in counts.most_common(_MAX_KINDS))


def _unknown(ids: Sequence[str]) -> Problem:
    more = f" and {len(ids) - _MAX_NAMED} more" if len(ids) > _MAX_NAMED else ""
    names = ", ".join(map(quoted, ids[:_MAX_NAMED])) + more
    return not_found(f"no event {names} waits; `sluice event ID` says what became of one")


def _summary(endpoint: str, one: WaitingEvent) -> WaitingSummary:
    return WaitingSummary(
        id=one.event.id,
        endpoint=endpoint,
        event=one.event.type,
        session=one.event.session,
        lane=one.event.lane,
        state="leased" if one.leased else "waiting",
        accepted_at=moment(one.event.accepted_at),
        due_at=moment(one.due),
        due_in_s=one.due_in,
        failed=one.failed,
        reason=one.last_attempt.reason or None if one.last_attempt else None,
        target=masked(one.event.target.decode("latin-1")),
        bytes=one.bytes,
    )
