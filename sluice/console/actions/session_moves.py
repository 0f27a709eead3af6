"""What a person decides of a session: that it is forgotten, moved, or for anybody to have.

A worker of ours first stops a session that it runs, with its next beat; only then another one gets it. An existing
worker knows nothing of us and cannot be told to stop: what it runs and lists stays there.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from sessions.orphans import FULL_AT, Fleet, has_room
from sessions.records import Ended, Moved, NoSuchWorker, SessionRow, StillRuns, Unknown, WorkerRow
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind, invalid, not_found
from sluice.console.actions.sessions import fleet_of, unknown_session

PERSON = "a person"


@dataclass(frozen=True, slots=True)
class ForgetSession:
    session: str
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """Its record and its history are gone then, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class ForgottenSession:
    forgotten: bool
    worker: str | None
    """That has it, or had it last."""
    stops_first: bool
    """That worker is one of ours, and stops it first."""


@dataclass(frozen=True, slots=True)
class RestoreSession:
    session: str
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""


@dataclass(frozen=True, slots=True)
class RestoredSession:
    restored: bool
    ended: str
    """Why nobody ran it."""
    starts_by_create: bool
    """Its login lies on an existing worker, which is told nothing: it starts it when somebody creates it again."""


@dataclass(frozen=True, slots=True)
class MoveSession:
    session: str
    to: str
    """A worker."""
    force: bool = False
    """Also where its login stays behind."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""


@dataclass(frozen=True, slots=True)
class ReleaseSession:
    session: str
    force: bool = False
    """Also where its login stays behind."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""


@dataclass(frozen=True, slots=True)
class MovedSession:
    moved: bool
    left: str | None
    """The worker that had it, or had it last."""
    worker: str | None
    """That has it now; null: nobody yet."""
    stops_first: bool
    """The worker that it leaves is one of ours, and stops it first."""
    login_stays: bool
    """On the disk of the worker that it leaves: it needs a new QR code where it goes."""
    starts_by_create: bool
    """It goes to an existing worker, which is told nothing: it starts it when somebody creates it again."""


async def forget(deployment: Deployment, request: ForgetSession) -> ForgottenSession | Problem:
    """Forget a session for good, with its history."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    if row.worker is not None and row.existing and row.missing_since is None:
        return _conflict(
            f"{row.worker} runs {row.session} and lists it, so it would come back: send DELETE "
            f"/api/sessions/{quote(row.session, safe='')} to the gateway, which has it closed there and then forgets it"
        )
    if not request.confirm and not request.dry_run:
        return invalid("set confirm to true, or look first with dry_run set to true")
    stops_first = row.worker is not None and not row.existing
    forgotten = not request.dry_run and await deployment.registry.forget(row.session, closed=not stops_first)
    return ForgottenSession(forgotten, row.worker or row.last_owner, stops_first)


async def restore(deployment: Deployment, request: RestoreSession) -> RestoredSession | Problem:
    """Take back that a session was ended: workers may run it again."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    if not row.ended:
        return _conflict(f"{quoted(row.session)} was not ended: it is {row.state} (sluice sessions show)")
    restored = not request.dry_run and await deployment.registry.restore(row.session, PERSON)
    return RestoredSession(restored, row.reason or row.ended, row.existing)


async def move(deployment: Deployment, request: MoveSession) -> MovedSession | Problem:
    """Send a session to another worker."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    fleet = await fleet_of(deployment)
    target = fleet.workers.get(request.to)
    if target is None:
        return _no_worker(request.to, fleet)
    if row.worker == target.worker:
        return MovedSession(False, row.worker, row.worker, False, False, False)
    problem = _unable(target) or _left_behind(deployment, row, request.force, target)
    if problem:
        return problem
    if request.dry_run:
        return _outcome(deployment, row, moved=False, to=target)
    found = await deployment.registry.move(row.session, target.worker, PERSON)
    if isinstance(found, NoSuchWorker):
        return _no_worker(request.to, fleet)
    return await _moved(deployment, row, found, target)


async def release(deployment: Deployment, request: ReleaseSession) -> MovedSession | Problem:
    """Let any worker of ours have a session."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    problem = _left_behind(deployment, row, request.force, None)
    if problem:
        return problem
    if request.dry_run:
        return _outcome(deployment, row, moved=False, to=None)
    return await _moved(deployment, row, await deployment.registry.release(row.session, PERSON), None)


async def _moved(
    deployment: Deployment, row: SessionRow, found: Moved | StillRuns | Unknown | Ended, to: WorkerRow | None
) -> MovedSession | Problem:
    if isinstance(found, Unknown):
        return unknown_session(row.session)
    if isinstance(found, StillRuns):
        return _runs_there(row, found.worker)
    if isinstance(found, Ended):
        return _conflict(f"{quoted(row.session)} was ended: `sluice sessions restore` takes that back")
    after = await deployment.registry.session(row.session)
    return _outcome(deployment, row, moved=True, to=to, now=after.worker if after else None)


def _outcome(
    deployment: Deployment, row: SessionRow, *, moved: bool, to: WorkerRow | None, now: str | None = None
) -> MovedSession:
    return MovedSession(
        moved=moved,
        left=row.worker or row.last_owner,
        worker=now,
        stops_first=row.worker is not None and not row.existing,
        login_stays=_stays(deployment, row, to),
        starts_by_create=to is not None and to.existing,
    )


def _stays(deployment: Deployment, row: SessionRow, to: WorkerRow | None) -> bool:
    """Workers of ours find each other's logins; with an existing one on either side nobody does."""
    to_existing = to is not None and to.existing and (row.worker or row.last_owner) is not None
    return (row.existing or to_existing) and not deployment.policies.sessions.shared_profiles


def _left_behind(deployment: Deployment, row: SessionRow, force: bool, to: WorkerRow | None) -> Problem | None:
    if row.worker is not None and row.existing and row.missing_since is None:
        return _runs_there(row, row.worker)
    if force or not _stays(deployment, row, to):
        return None
    return _conflict(
        f"the login of {row.session} lies on the disk of {row.worker or row.last_owner} and stays there, so on "
        f"{to.worker if to else 'another worker'} it "
        "needs a new QR code: force moves it all the same; where all workers reach the same profiles, set "
        "sessions.shared_profiles: true"
    )


def _runs_there(row: SessionRow, worker: str) -> Problem:
    return _conflict(
        f"{worker} runs {row.session}, or is about to, and knows nothing of Sluice, so nobody can tell it to stop: "
        f"close it there first (DELETE {row.url or ''}/api/sessions/{quote(row.session, safe='')}, with its api_key)"
    )


def _unable(target: WorkerRow) -> Problem | None:
    if target.beat_left <= 0:
        return _conflict(f"{target.worker} does not answer: start it, or choose another (sluice status)")
    if target.draining:
        return _conflict(f"{target.worker} is draining and takes no session: choose another (sluice status)")
    if not has_room(target):
        full = f"{target.sessions + target.reserved} of {target.capacity}"
        if max(target.memory, target.cpu) >= FULL_AT:
            full = f"memory {target.memory:.0%}, CPU {target.cpu:.0%}"
        return _conflict(f"{target.worker} is full ({full}): choose another (sluice status), or give it more room")
    return None


def _no_worker(name: str, fleet: Fleet) -> Problem:
    names = ", ".join(fleet.workers) or "none"
    return not_found(f"there is no worker {quoted(name)}; there are {names}")


def _conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)
