"""What lies in the store for an endpoint that the policies have lost, given to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from relay.queue.moving import Mover
from relay.queue.stranded import counts_of, stranded
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, ProblemKind, invalid, not_found, unknown_endpoint
from sluice.http.decode import Bounds

MAX_AT_ONCE = 1000
"""Events that one call moves."""


@dataclass(frozen=True, slots=True)
class MoveQueue:
    old: str
    """An endpoint that the policies do not name."""
    new: str
    """One that they name."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """The new endpoint is sent what the old one was to get, so it must be confirmed."""
    limit: Annotated[int, Bounds(1, MAX_AT_ONCE)] = MAX_AT_ONCE
    """About; while some are left and some were moved, ask again."""


@dataclass(frozen=True, slots=True)
class MovedQueue:
    waiting: int
    """How many waited when the call began; those that were being delivered not included."""
    dead: int
    """How many dead letters there were then."""
    moved: int
    merged: int
    """Of those: the new endpoint had them already, so they are there once."""
    left: int
    leased: int
    """Of those that are left: somebody is delivering them, for some seconds more at the most."""


async def move(deployment: Deployment, request: MoveQueue) -> MovedQueue | Problem:
    """Give what lies in the store for an endpoint that the policies do not name to one that they name."""
    if problem := await _problem(deployment, request):
        return problem
    before = await counts_of(deployment.store, request.old)
    if request.dry_run:
        left = before.waiting + before.dead + before.leased
        return MovedQueue(before.waiting, before.dead, 0, 0, left, before.leased)
    moved = await Mover(deployment.store, request.old, request.new).move(request.limit)
    after = await counts_of(deployment.store, request.old)
    left = after.waiting + after.leased + after.dead
    return MovedQueue(before.waiting, before.dead, moved.gone, moved.merged, left, moved.leased)


async def _problem(deployment: Deployment, request: MoveQueue) -> Problem | None:
    endpoints = deployment.policies.relay.endpoints
    receivers = deployment.policies.relay.receivers
    if request.new not in receivers:
        return unknown_endpoint(request.new, receivers)
    if request.old in endpoints:
        message = (
            f"{request.old} is an endpoint of the policies, so relays deliver to it: remove or rename it there first"
        )
        return Problem(ProblemKind.CONFLICT, message)
    if not request.confirm and not request.dry_run:
        return invalid(
            f"moving sends to {request.new} what {request.old} was to get: set confirm to true, "
            "or look first with dry_run set to true"
        )
    left = await stranded(deployment.store, endpoints)
    if request.old not in left and request.dry_run:
        names = ", ".join(left) or "none"
        return not_found(f"nothing lies in the store for {quoted(request.old)}; endpoints with something: {names}")
    return None
