"""Events found by session, type and endpoint, wherever they are: waiting, dead, or in the history of what has left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated

from relay.queue.dead_letter_pages import oldest_first
from relay.queue.history import State, departed_of
from relay.queue.layout import PARTITIONS, partition_of
from relay.queue.waiting import Waiting
from sluice.console.actions.deployment import Deployment, Problem, invalid, moment
from sluice.console.actions.paging import endpoint_names
from sluice.http.decode import Bounds

_MAX_LOOKED_AT = 20_000  # events of each of the three kinds, in one call
_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FindEvents:
    """A session or an event type must be given; all that are given must hold."""

    session: str | None = None
    event: str | None = None
    """An event type or a glob."""
    endpoint: str | None = None
    since: datetime | None = None
    """Accepted then or later."""
    limit: Annotated[int, Bounds(1, 1000)] = 100


@dataclass(frozen=True, slots=True)
class FoundEvent:
    id: str
    endpoint: str
    event: str | None
    """null: it has left undelivered, and its type with its body."""
    session: str | None
    state: State
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class FoundEvents:
    events: tuple[FoundEvent, ...]
    """The youngest first, by when they were accepted."""
    complete: bool
    """false: there are more than `limit`, or more than could be looked at; give a session, an endpoint or since."""


async def find(deployment: Deployment, request: FindEvents) -> FoundEvents | Problem:
    """Find events by session and type, wherever they are; of those that have left, as long as their history is kept."""
    if request.session is None and request.event is None:
        return invalid("say which events are meant: by session, by event, or by both")
    names = await endpoint_names(deployment, request.endpoint)
    if isinstance(names, Problem):
        return names
    found: list[FoundEvent] = []
    complete = True
    for source in (_waiting, _dead, _departed):
        looked_at = 0
        async for one in source(deployment, names, request.session):
            if looked_at == _MAX_LOOKED_AT:
                complete = False
                break
            looked_at += 1
            if _has(request, one):
                found.append(one)
    found.sort(key=lambda one: one.accepted_at, reverse=True)
    return FoundEvents(tuple(found[: request.limit]), complete and len(found) <= request.limit)


def _has(request: FindEvents, one: FoundEvent) -> bool:
    return (
        (request.session is None or one.session == request.session)
        and (request.event is None or (one.event is not None and fnmatchcase(one.event, request.event)))
        and (request.since is None or one.accepted_at >= request.since)
    )


async def _waiting(deployment: Deployment, names: list[str], session: str | None) -> AsyncIterator[FoundEvent]:
    for endpoint in names:
        queue = Waiting(deployment.store, endpoint)
        async for places in queue.places(None, session, _PAGE):
            for one in await queue.read(places):
                accepted = moment(one.event.accepted_at)
                state: State = "leased" if one.leased else "waiting"
                yield FoundEvent(one.event.id, endpoint, one.event.type, one.event.session, state, accepted)


async def _dead(deployment: Deployment, names: list[str], session: str | None) -> AsyncIterator[FoundEvent]:
    async for place, letter in oldest_first(deployment.store, names):
        event, accepted = letter.event, moment(letter.event.accepted_at)
        yield FoundEvent(event.id, place.endpoint, event.type, event.session, "dead", accepted)


async def _departed(deployment: Deployment, names: list[str], session: str | None) -> AsyncIterator[FoundEvent]:
    partitions = range(PARTITIONS) if session is None else [partition_of(session)]
    for endpoint in names:
        for partition in partitions:
            async for one in departed_of(deployment.store, endpoint, partition):
                accepted = moment(one.accepted_at)
                yield FoundEvent(one.id, endpoint, one.type, one.session, one.state, accepted)
