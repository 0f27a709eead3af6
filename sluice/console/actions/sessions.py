"""Sessions: who runs which login."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from sessions.orphans import Fleet, why_orphaned
from sessions.records import HistoryLine, SessionRow
from sessions.signs import NotedFault
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, invalid, moment, not_found
from sluice.http.decode import Bounds

_PLACE = re.compile(r"[0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ListSessions:
    limit: Annotated[int, Bounds(1, 10_000)] = 1000
    """About how many are looked at."""
    after: Annotated[str, Bounds(0, 19)] = ""
    """The `after` of the answer before this; empty: from the beginning."""
    workspace: str | None = None
    """Only those of it, as the next three."""
    worker: str | None = None
    """That has it, or had it last."""
    state: str | None = None
    orphaned: bool = False
    """That nobody has, though it is wanted."""
    search: str | None = None
    """With this in its name or phone, in any case."""


@dataclass(frozen=True, slots=True)
class ShowSession:
    session: str


@dataclass(frozen=True, slots=True)
class SessionChange:
    at: datetime
    what: str
    who: str


@dataclass(frozen=True, slots=True)
class SessionFault:
    """What is wrong with a session that somebody runs."""

    kind: str
    """silent, flapping, or the state in which it is stuck."""
    since: datetime
    noted: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Session:
    session: str
    about: Mapping[str, Any]
    """What was said of it when it was created."""
    workspace: str | None
    state: str
    reason: str | None
    """Why it failed, or how its worker calls its state."""
    phone: str | None
    since: datetime
    """The last change of state, phone or owner."""
    worker: str | None
    """null: nobody runs it; nor are there url, fence and lease_left."""
    url: str | None
    fence: int | None
    lease_left: float | None
    """Seconds."""
    existing: bool
    """Its worker, or its last one, is a service that we do not run: its login lies there."""
    last_owner: str | None
    """While nobody runs it."""
    lost_since: datetime | None
    """Since when nobody runs it."""
    missing_since: datetime | None
    """Since when its worker, an existing one, does not list it."""
    orphaned: str | None
    """Why nobody runs it, and what helps; null: somebody does, or it was ended."""
    ended: str | None
    """Why it is kept and run by nobody, until it is created again or restored: superseded or deleted."""
    rival: str | None
    """The session of its workspace that has its phone, while both are connected."""
    fault: SessionFault | None
    """What is wrong with it though somebody runs it; null: nothing (sluice sessions watch)."""
    last_event: datetime | None
    """When its last event came; null: none did that is known."""
    restarts: tuple[datetime, ...]
    """When it was restarted where it runs: the last 20 times."""
    history: tuple[SessionChange, ...] = ()
    """The last 20 changes, the newest last; only where one session is asked for."""


@dataclass(frozen=True, slots=True)
class SessionList:
    sessions: tuple[Session, ...]
    """By name. Pages are in no order, and one that comes or goes meanwhile may be on two of them or on none."""
    after: str | None
    """By which the next page is asked for; null: this is the last."""


async def list_sessions(deployment: Deployment, request: ListSessions) -> SessionList | Problem:
    """Sessions, a page at a time: nobody waits long for one who asks for many."""
    if not _PLACE.fullmatch(request.after):
        return invalid("after is what the answer before this one says, or empty")
    page = await deployment.registry.page(request.after, request.limit, request.workspace)
    fleet = await fleet_of(deployment)
    rows = sorted((row for row in page.rows if _wanted(row, request)), key=lambda row: row.session)
    return SessionList(tuple(_session(row, fleet) for row in rows), page.go_on or None)


async def show(deployment: Deployment, request: ShowSession) -> Session | Problem:
    """One session, with its last changes."""
    row = await deployment.registry.session(request.session)
    return unknown_session(request.session) if row is None else _session(row, await fleet_of(deployment))


async def fleet_of(deployment: Deployment) -> Fleet:
    workers = (await deployment.registry.summary()).workers
    return Fleet({one.worker: one for one in workers}, [one.name for one in deployment.policies.sessions.workers])


def unknown_session(name: str) -> Problem:
    return not_found(f"there is no session {quoted(name)}; `sluice sessions list` shows them")


def _wanted(row: SessionRow, request: ListSessions) -> bool:
    return (
        (request.worker is None or request.worker in (row.worker, row.last_owner))
        and (request.state is None or request.state == row.state)
        and not (request.orphaned and (row.worker is not None or row.ended))
        and (request.search is None or _has(row, request.search.casefold()))
    )


def _has(row: SessionRow, text: str) -> bool:
    return text in row.session.casefold() or text in (row.phone or "").casefold()


def _session(row: SessionRow, fleet: Fleet) -> Session:
    return Session(
        session=row.session,
        about=row.about,
        workspace=row.workspace,
        state=row.state,
        reason=row.reason,
        phone=row.phone,
        since=moment(row.since),
        worker=row.worker,
        url=row.url,
        fence=row.fence,
        lease_left=row.lease_left,
        existing=row.existing,
        last_owner=row.last_owner,
        lost_since=_moment(row.lost_since),
        missing_since=_moment(row.missing_since),
        orphaned=None if row.ended else why_orphaned(row, fleet),
        ended=row.ended or None,
        rival=row.rival or None,
        fault=_fault(row.fault),
        last_event=_moment(row.signs.heard),
        restarts=tuple(moment(one) for one in row.signs.restarts),
        history=tuple(_change(line) for line in row.history),
    )


def _fault(noted: NotedFault | None) -> SessionFault | None:
    return None if noted is None else SessionFault(noted.kind, moment(noted.since), moment(noted.noted), noted.reason)


def _change(line: HistoryLine) -> SessionChange:
    return SessionChange(moment(line.at), line.what, line.who)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
