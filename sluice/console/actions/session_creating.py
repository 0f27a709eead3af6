"""A session that a person creates, as Laravel would: at the worker with the most room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sessions.lifecycle.at_worker import AtWorker, Created, Failed
from sessions.lifecycle.restarting import number_of
from sessions.orphans import NO_ROOM, NO_WORKER, Fleet, has_room
from sessions.records import NoCapacity, Owner, OwnerAway, Purging, SessionRow
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind
from sluice.console.actions.sessions import fleet_of
from sluice.http.decode import Bounds, Form

PERSON = "a person"
_NAME = r"[A-Za-z0-9_-]{1,200}"


@dataclass(frozen=True, slots=True)
class CreateSession:
    session: Annotated[str, Bounds(1, 200), Form(_NAME, "1 to 200 of A-Z a-z 0-9 _ -")]
    workspace: Annotated[str, Bounds(1, 200)]
    """By which its worker and Laravel know whose it is."""
    account: Annotated[str, Bounds(0, 200)] = ""
    """The id of Laravel's account; empty: none is told."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""


@dataclass(frozen=True, slots=True)
class CreatedSession:
    created: bool
    known: bool
    """It was known before: it was ended, or nobody ran it."""
    worker: str | None
    """That runs it now; null: dry run."""
    existing: bool
    """That worker is a service that we do not run."""
    state: str | None
    """As its worker says; null: dry run."""


async def create(deployment: Deployment, request: CreateSession) -> CreatedSession | Problem:
    """Create a session, or start one again that nobody runs; it then shows a code, or has its login still."""
    row = await deployment.registry.session(request.session)
    problem = _impossible(request.session, row, await fleet_of(deployment))
    if problem is not None:
        return problem
    if request.dry_run:
        return CreatedSession(False, row is not None, None, False, None)
    sessions = deployment.policies.sessions
    at_worker = AtWorker(deployment.registry, sessions.workers)
    about = {"workspace_id": number_of(request.workspace)}
    if request.account:
        about["account_id"] = number_of(request.account)
    found = await at_worker.create(request.session, about, PERSON, shared_profiles=sessions.shared_profiles)
    if isinstance(found, Created):
        return CreatedSession(True, row is not None, found.worker, found.existing, found.state)
    return _conflict(_why(request.session, found))


def _impossible(session: str, row: SessionRow | None, fleet: Fleet) -> Problem | None:
    """What is known before anybody is asked."""
    if row is not None and row.worker is not None:
        return _conflict(_runs(session, row.worker))
    if row is not None and row.ended == "purging":
        return _conflict(_PURGING)
    if row is not None and row.existing and row.last_owner is not None:
        return None  # there is always room where its login lies
    live = [one for one in fleet.workers.values() if one.beat_left > 0]
    if not live:
        return _conflict(NO_WORKER)
    return None if any(has_room(one) for one in live) else _conflict(NO_ROOM)


def _why(session: str, found: Failed | Owner | NoCapacity | OwnerAway | Purging) -> str:
    match found:
        case Owner():
            return _runs(session, found.worker)
        case NoCapacity(0, _):
            return NO_WORKER
        case NoCapacity():
            return NO_ROOM
        case OwnerAway(worker):
            return f"its login lies on {worker}, which does not answer: start that one again"
        case Purging():
            return _PURGING
        case Failed():
            return f"{session} is not created: {found.why}; sluice sessions show {session} says how it stands"


_PURGING = "it was ended long ago, and is being forgotten with its profile: create it when that is done"


def _runs(session: str, worker: str) -> str:
    return f"{worker} runs {session} already: sluice sessions restart {session} starts it anew"


def _conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)
