"""Sessions: who runs which login."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from sessions.registry import SessionRow
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, invalid, moment, not_found
from sluice.http.decode import Bounds

_PLACE = re.compile(r"[0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ListSessions:
    limit: Annotated[int, Bounds(1, 10_000)] = 1000
    """About how many."""
    after: Annotated[str, Bounds(0, 19)] = ""
    """The `after` of the answer before this; empty: from the beginning."""


@dataclass(frozen=True, slots=True)
class ShowSession:
    session: str


@dataclass(frozen=True, slots=True)
class Session:
    session: str
    about: Mapping[str, Any]
    """What was said of it when it was created."""
    workspace: str | None
    state: str
    phone: str | None
    since: datetime
    """The last change of state or phone."""
    worker: str | None
    """null: nobody runs it; nor are there url, fence and lease_left."""
    url: str | None
    fence: int | None
    lease_left: float | None
    """Seconds."""


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
    page = await deployment.registry.page(request.after, request.limit)
    rows = sorted(page.rows, key=lambda row: row.session)
    return SessionList(tuple(_session(row) for row in rows), page.go_on or None)


async def show(deployment: Deployment, request: ShowSession) -> Session | Problem:
    """One session."""
    row = await deployment.registry.session(request.session)
    if row is not None:
        return _session(row)
    return not_found(f"there is no session {quoted(request.session)}; `sluice sessions list` shows them")


def _session(row: SessionRow) -> Session:
    return Session(
        session=row.session,
        about=row.about,
        workspace=row.workspace,
        state=row.state,
        phone=row.phone,
        since=moment(row.since),
        worker=row.worker,
        url=row.url,
        fence=row.fence,
        lease_left=row.lease_left,
    )
