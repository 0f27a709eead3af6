"""Events that were delivered, sent to an endpoint once more while their bodies are kept.

Each is a new delivery at the end of what waits for its session. A call looks at a bounded number of events: whoever
wants them all asks again with the `next` and the `until` of the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated

from relay.process import open_queue
from relay.queue import newest
from relay.queue.dead_letters import partition_times
from relay.queue.errors import BacklogFull
from relay.queue.history import history_of
from relay.queue.inbox import Inbox
from relay.queue.kept import ONCE_MORE, Kept, KeptEvent, KeptPlace, once_more
from sluice.config.problems import quoted
from sluice.console.actions.deployment import (
    Deployment,
    Problem,
    ProblemKind,
    moment,
    not_found,
)
from sluice.console.actions.paging import cursor, endpoint_names, read_cursor
from sluice.console.actions.selection import unsaid
from sluice.http.decode import Bounds

MAX_AT_ONCE = 1000
"""Events that one call sends."""
_MAX_LOOKED_AT = 10_000  # events in one call
_PAGE = 500
_MS = 0.001  # what was delivered in this very millisecond is there
_MAX_KINDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptCriteria:
    """All that are given must hold."""

    endpoint: str | None = None
    """May be left out where only one has what is meant."""
    session: str | None = None
    event: str | None = None
    """An event type or a glob."""
    since: datetime | None = None
    """Delivered then or later."""
    until: datetime | None = None
    """Delivered before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendEvents(KeptCriteria):
    """Which are meant must be said: by ids, by criteria, or by `all`. Calls with the same `until` send none twice
    within an hour, so a call whose answer was lost can be made again.
    """

    ids: Annotated[tuple[str, ...], Bounds(0, MAX_AT_ONCE)] = ()
    all: bool = False
    """All that the criteria leave."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    limit: Annotated[int, Bounds(1, MAX_AT_ONCE)] = MAX_AT_ONCE
    after: str | None = None
    """The `next` of the call before; give its `until` as well."""


@dataclass(frozen=True, slots=True)
class ResentKind:
    count: int
    endpoint: str
    event: str


@dataclass(frozen=True, slots=True)
class Resent:
    meant: int
    """How many this call met that are meant."""
    already: int
    """Of those: sent once more by an earlier call with the same `until`."""
    superseded: int
    """Of those: not sent, as a newer event makes them harmful."""
    until: datetime
    """What was delivered then or later is left alone."""
    next: str | None
    """Ask again with it as `after`; null: all that are meant were met, unless the backlog is full."""
    kinds: tuple[ResentKind, ...]
    """Of those that were met, the most frequent first."""
    full: bool
    """The backlog of the endpoint is full: the rest was not sent. Ask again in the same way when it has room."""
    ids: tuple[str, ...]
    """Under these the new deliveries are found; the receiver is told the ids of the first ones."""
    resent: int


async def resend(deployment: Deployment, request: ResendEvents) -> Resent | Problem:
    """Send events once more that were delivered, as long as their bodies are kept."""
    if problem := unsaid(request, KeptCriteria, "events", "delivered events"):
        return problem
    endpoint = await _endpoint(deployment, request)
    if isinstance(endpoint, Problem):
        return endpoint
    after = None if request.after is None else _place(request.after)
    if isinstance(after, Problem):
        return after
    until = request.until or moment(max(await partition_times(deployment.store)) + _MS)
    kept = Kept(deployment.store, endpoint)
    if request.ids:
        found, following = await _named(kept, request, after, until)
    else:
        found, following = await _page(kept, request, after, until)
    older = await newest.superseded(deployment.store, endpoint, [one.event for one in found])
    good = [one for one in found if one.event.id not in older]
    sent, already, full = ([], 0, False) if request.dry_run else await _send(deployment, kept, good, until)
    if full and not sent:
        return _full(endpoint, until)
    kinds = _kinds(endpoint, found)
    return Resent(len(found), already, len(older), until, following, kinds, full, tuple(sent), len(sent))


async def _send(
    deployment: Deployment, kept: Kept, found: Sequence[KeptEvent], until: datetime
) -> tuple[list[str], int, bool]:
    """The ids of what was sent, how many had been before, and whether the backlog is full."""
    endpoint = deployment.policies.relay.endpoints[kept.endpoint]
    destination = open_queue(deployment.store, endpoint, deployment.policies).destination
    inbox, run = Inbox(deployment.store), round(until.timestamp() * 1000)
    sent: list[str] = []
    already = 0
    for one in found:  # one after the other, so that the order within a session holds
        event = await kept.whole(one.event.id)
        if event is None:
            continue
        try:
            accepted = await inbox.accept(once_more(event, run), [destination])
        except BacklogFull:
            return sent, already, True
        already += accepted.repeat
        if not accepted.repeat:
            sent.append(accepted.id)
    return sent, already, False


def _full(endpoint: str, until: datetime) -> Problem:
    message = (
        f"the backlog of {endpoint} is full (relay.backlog), so nothing more is sent to it: deliver faster, or raise "
        f"it; then ask again with until {until:%Y-%m-%dT%H:%M:%S.%fZ}, and none is sent twice"
    )
    return Problem(ProblemKind.CONFLICT, message)


# --- of which endpoint


async def _endpoint(deployment: Deployment, request: ResendEvents) -> str | Problem:
    """The one that has what is meant."""
    endpoints = deployment.policies.relay.endpoints
    if request.endpoint is not None and request.endpoint not in endpoints:
        names = await endpoint_names(deployment, request.endpoint)
        return names if isinstance(names, Problem) else _nobody_sends(request.endpoint)
    names = [*endpoints] if request.endpoint is None else [request.endpoint]
    if request.ids:
        return await _endpoint_of_ids(deployment, names, request.ids)
    have = [name for name in names if await Kept(deployment.store, name).count()]
    if len(have) > 1:
        return Problem(ProblemKind.CONFLICT, f"events that {_and(have)} got are kept; name one endpoint")
    if not have and not (names and deployment.policies.relay.retention.bodies):
        return Problem(ProblemKind.CONFLICT, "no bodies of delivered events are kept; set relay.retention.bodies")
    return have[0] if have else names[0]


async def _endpoint_of_ids(deployment: Deployment, names: Sequence[str], ids: Sequence[str]) -> str | Problem:
    kept = {name: {one.event.id for one in await Kept(deployment.store, name).by_ids(ids)} for name in names}
    for identity in ids:
        at = [name for name in names if identity in kept[name]]
        if not at:
            return await _not_kept(deployment, names, identity)
        if len(at) > 1:
            return Problem(ProblemKind.CONFLICT, f"{quoted(identity)} was delivered to {_and(at)}; name one endpoint")
    having = [name for name in names if kept[name]]
    if len(having) > 1:
        return Problem(ProblemKind.CONFLICT, f"these were delivered to {_and(having)}; name one endpoint")
    return having[0]


async def _not_kept(deployment: Deployment, names: Sequence[str], identity: str) -> Problem:
    """Why an event cannot be sent once more."""
    first, mark, _ = identity.partition(ONCE_MORE)
    if mark:
        return not_found(f"{quoted(identity)} was itself sent once more, and is not kept; name {quoted(first)}")
    history = await history_of(deployment.store, names, identity)
    states = {part.state: part.endpoint for part in history.endpoints} if history else {}
    if "delivered" in states:
        retention = deployment.policies.relay.retention
        cure = "raise relay.retention.bodies or bodies_bytes" if retention.bodies else "set relay.retention.bodies"
        return not_found(f"{quoted(identity)} was delivered, and its body is no longer kept; {cure}")
    if "dead" in states:
        return not_found(f"{quoted(identity)} was not delivered but is a dead letter: sluice dead replay ID")
    if states:
        where = ", ".join(f"{state} ({endpoint})" for state, endpoint in states.items())
        return not_found(f"{quoted(identity)} was not delivered: {where}; `sluice event ID` says why")
    return not_found(f"nothing is known of an event {quoted(identity)}, or its body is no longer kept")


def _nobody_sends(endpoint: str) -> Problem:
    message = (
        f"{endpoint} is not an endpoint of the policies, so nothing is sent; put it back to send its events once more"
    )
    return Problem(ProblemKind.CONFLICT, message)


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


# --- pages


async def _named(
    kept: Kept, request: ResendEvents, after: KeptPlace | None, until: datetime
) -> tuple[list[KeptEvent], str | None]:
    """As `_page`, of those that are named."""
    every = sorted(await kept.by_ids(request.ids), key=lambda one: one.place)
    meant = [one for one in every if _has(request, until, one) and (after is None or one.place > after)]
    now = meant[: request.limit]
    return now, _cursor(kept.endpoint, now[-1].place) if len(meant) > len(now) else None


async def _page(
    kept: Kept, request: ResendEvents, after: KeptPlace | None, until: datetime
) -> tuple[list[KeptEvent], str | None]:
    """Up to `limit` that are meant, and where the next page begins; None: nothing follows."""
    since = request.since.timestamp() if request.since else None
    found: list[KeptEvent] = []
    looked_at, last = 0, None
    size = min(_PAGE, request.limit + 1)
    async for places in kept.places(after, since, until.timestamp(), request.session, size):
        if last is not None and (len(found) >= request.limit or looked_at >= _MAX_LOOKED_AT):
            return found, _cursor(kept.endpoint, last)
        for one in await kept.read(places):
            if _has(request, until, one):
                if len(found) >= request.limit:
                    return found, _cursor(kept.endpoint, last) if last else None
                found.append(one)
            last = one.place
        last, looked_at = places[-1], looked_at + len(places)
    return found, None


def _has(request: ResendEvents, until: datetime, one: KeptEvent) -> bool:
    event, delivered = one.event, one.place.delivered / 1000
    return (
        (request.session is None or event.session == request.session)
        and (request.event is None or fnmatchcase(event.type, request.event))
        and (request.since is None or delivered >= request.since.timestamp())
        and delivered < until.timestamp()
    )


def _cursor(endpoint: str, place: KeptPlace) -> str:
    return cursor(endpoint, place.partition, place.delivered, entry_id=place.member)


def _place(text: str) -> KeptPlace | Problem:
    read = read_cursor(text, 2)
    if isinstance(read, Problem):
        return read
    _, (partition, delivered), member = read
    return KeptPlace(partition, delivered, member)


def _kinds(endpoint: str, found: Sequence[KeptEvent]) -> tuple[ResentKind, ...]:
    counts = Counter(one.event.type for one in found)
    return tuple(ResentKind(count, endpoint, kind) for kind, count in counts.most_common(_MAX_KINDS))
