"""Sessions: who runs which login."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sessions.registry import SessionRow
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, moment, not_found


@dataclass(frozen=True, slots=True)
class ListSessions:
    pass


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


async def list_sessions(deployment: Deployment, _: ListSessions) -> SessionList:
    """All sessions, by name."""
    return SessionList(tuple(_session(row) for row in await deployment.registry.sessions()))


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
