"""A worker that a person empties, and takes back: it gets no more sessions, and gives those that it has to others."""

from __future__ import annotations

from dataclasses import dataclass

from sessions.orphans import has_room
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind, not_found


@dataclass(frozen=True, slots=True)
class DrainWorker:
    worker: str
    drain: bool = True
    """false: it is taken back, and gets sessions again."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""


@dataclass(frozen=True, slots=True)
class DrainedWorker:
    worker: str
    changed: bool
    """false: it was so before, or it is a dry run."""
    drains: bool
    sessions: int
    """That it has at this moment."""
    room: int
    """How many of them the other workers of ours have room for."""


async def drain(deployment: Deployment, request: DrainWorker) -> DrainedWorker | Problem:
    """Have a worker of ours give its sessions to others, two at a time, or take that back."""
    workers = {one.worker: one for one in await deployment.registry.workers()}
    row = workers.get(request.worker)
    if row is None:
        return not_found(f"there is no worker {quoted(request.worker)}; there are {', '.join(workers) or 'none'}")
    if row.existing:
        return _conflict(
            f"{row.worker} is an existing service that knows nothing of Sluice, so nobody can empty it: close its "
            "sessions there, or move each of them (sluice sessions move SESSION --to WORKER)"
        )
    if row.beat_left <= 0:
        return _conflict(f"{row.worker} is lost, and its sessions go to others by themselves (sluice status)")
    others = [one for one in workers.values() if one is not row and not one.existing and has_room(one)]
    room = min(row.sessions, sum(one.capacity - one.sessions - one.reserved for one in others))
    if request.dry_run:
        return DrainedWorker(row.worker, False, row.drains is not None, row.sessions, room)
    act = deployment.registry.drain if request.drain else deployment.registry.take_back
    if not await act(row.worker):
        return _conflict(f"{row.worker} has just left")
    changed = (row.drains is None) is request.drain
    return DrainedWorker(row.worker, changed, request.drain, row.sessions, room)


def _conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)
