"""Sessions go from full workers of ours to empty ones, now: which they would be, and sending them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from sessions.lifecycle.policies import Rebalance
from sessions.lifecycle.scaler import to_move
from sessions.shifting import PERSON
from sluice.console.actions.deployment import Deployment, Problem, invalid
from sluice.http.decode import Bounds


@dataclass(frozen=True, slots=True)
class RebalanceSessions:
    limit: Annotated[int, Bounds(1, 1000)] = 20
    """The most that are moved."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """Each of them is closed and opened anew, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class RebalancedSession:
    session: str
    left: str
    to: str
    outcome: str | None
    """moved, changed (it is busy by now, or was moved) or full (there is no room any more); null: dry run."""


@dataclass(frozen=True, slots=True)
class RebalancedSessions:
    sessions: tuple[RebalancedSession, ...]
    outcomes: Mapping[str, int]


async def rebalance(deployment: Deployment, request: RebalanceSessions) -> RebalancedSessions | Problem:
    """Move sessions that are quiet from full workers to empty ones, by `sessions.rebalance`, or by its defaults."""
    if not request.confirm and not request.dry_run:
        return invalid("set confirm to true, or look first with dry_run set to true")
    policy = deployment.policies.sessions.rebalance or Rebalance()
    workers, done = await deployment.registry.workers(), list[RebalancedSession]()
    async for shift in to_move(deployment.registry, workers, policy.quiet, request.limit):
        outcome = None if request.dry_run else await deployment.registry.shift(shift, PERSON)
        done.append(RebalancedSession(shift.session, shift.origin, shift.to, outcome))
    outcomes = Counter(one.outcome for one in done if one.outcome is not None)
    return RebalancedSessions(tuple(done), dict(outcomes))
