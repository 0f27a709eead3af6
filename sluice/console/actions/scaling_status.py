"""How many workers of ours are wanted, for `status`."""

from __future__ import annotations

from gateway.look import Look
from sessions.rebalancing import worth
from sessions.shifting import LastMove
from sluice.console.status import MovedSessionStatus, ScalingStatus


def scaling_status(seen: Look, *, rebalances: bool) -> ScalingStatus | None:
    """`rebalances`: the policies have sessions moved from full workers to empty ones."""
    if seen.scaling is None or seen.scaling.decision is None:
        return None
    wanted, demand = seen.scaling.decision.wanted, seen.scaling.decision.demand
    origin = worth(seen.sessions.workers) if rebalances and seen.sessions else None
    return ScalingStatus(
        wanted=wanted.workers,
        live=demand.live,
        sessions=demand.sessions,
        unowned=demand.unowned,
        unplaced=demand.unplaced,
        per_worker=demand.per_worker,
        full=demand.full,
        gives=origin.worker if origin else None,
        last=_moved(seen.scaling.last),
        most=seen.scaling.most,
    )


def _moved(last: LastMove | None) -> MovedSessionStatus | None:
    return MovedSessionStatus(last.session, last.origin, last.to, last.by, last.ago) if last else None
