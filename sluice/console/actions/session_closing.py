"""A session that a person has closed where it runs: logged out at its phone, or deleted as Laravel deletes it."""

from __future__ import annotations

from dataclasses import dataclass

from sessions.lifecycle.at_worker import AtWorker, Failed
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind, invalid
from sluice.console.actions.sessions import unknown_session

_CONFIRM = "set confirm to true, or look first with dry_run set to true"


@dataclass(frozen=True, slots=True)
class LogOutSession:
    session: str
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """It needs a new QR code then, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class LoggedOutSession:
    logged_out: bool
    worker: str
    existing: bool
    """That worker is a service that we do not run."""
    phone: str | None
    """Which unlinks it."""


@dataclass(frozen=True, slots=True)
class DeleteSession:
    session: str
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """Its record and its history are gone then, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class DeletedSession:
    deleted: bool
    worker: str | None
    """That closes it; null: nobody runs it."""
    login_stays: bool
    """On the disk of an existing worker: a later create there needs no QR code."""


async def log_out(deployment: Deployment, request: LogOutSession) -> LoggedOutSession | Problem:
    """Have a session's worker log it out: its phone unlinks it, and it needs a new QR code."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    if row.worker is None:
        return _conflict(f"nobody runs {quoted(row.session)}: end it on its phone, under Linked devices")
    if not request.confirm and not request.dry_run:
        return invalid(_CONFIRM)
    if request.dry_run:
        return LoggedOutSession(False, row.worker, row.existing, row.phone)
    failed = await AtWorker(deployment.registry, deployment.policies.sessions.workers).log_out(row)
    if failed is None:
        return LoggedOutSession(True, row.worker, row.existing, row.phone)
    return _conflict(
        f"{row.worker} cannot log out ({failed.why}): end {quoted(row.session)} on its phone, under Linked devices, or "
        "close it with sluice sessions delete, which leaves its login"
        if failed.is_missing
        else f"{row.worker} did not log {quoted(row.session)} out: {failed.why}; see its log, and try again"
    )


async def delete(deployment: Deployment, request: DeleteSession) -> DeletedSession | Problem:
    """Have a session's worker close it, as Laravel's DELETE does, and forget it with its history."""
    row = await deployment.registry.session(request.session)
    if row is None:
        return unknown_session(request.session)
    if not request.confirm and not request.dry_run:
        return invalid(_CONFIRM)
    login_stays = row.existing and (row.worker or row.last_owner) is not None
    if request.dry_run:
        return DeletedSession(False, row.worker, login_stays)
    if row.worker is None:
        return DeletedSession(await deployment.registry.forget(row.session), None, login_stays)
    failed = await AtWorker(deployment.registry, deployment.policies.sessions.workers).delete(row)
    if isinstance(failed, Failed):
        return _conflict(
            f"{row.worker} did not close {quoted(row.session)}: {failed.why}; see whether it answers and takes its key "
            "(sluice status), or forget it without that worker (sluice sessions forget)"
        )
    return DeletedSession(True, row.worker, login_stays)


def _conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)
