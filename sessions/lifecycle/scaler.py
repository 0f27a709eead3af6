"""One process at a time decides how many workers are wanted, balances them, and empties those that drain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from sessions.lifecycle.election import Election
from sessions.lifecycle.policies import Rebalance
from sessions.rebalancing import Held, Shift, moved, to_balance, to_drain, worth
from sessions.records import WorkerRow
from sessions.registry import Registry
from sessions.scaling import Demand, demand_of, want
from sessions.shifting import Decision, Scaling
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.lifecycle")
EVERY = 1.0
"""Seconds between two steps."""
_HELD = 10.0
"""Seconds after which another process goes on, where one was killed."""
BALANCE, DRAIN = "rebalancing", "drain"
"""Who moves a session, in its history."""


async def to_move(registry: Registry, workers: Collection[WorkerRow], quiet: float, most: int) -> AsyncIterator[Shift]:
    """What would balance them, one session after the other. Raises StoreAway and StoreRefused."""
    known, none_can_go = dict[str, list[Held]](), set[str]()
    while most > 0:
        origin = worth(workers, none_can_go)
        if origin is None:
            return
        if origin.worker not in known:
            known[origin.worker] = await registry.held_by(origin.worker)
        held = known[origin.worker]
        shift = to_balance(origin, held, workers, quiet)
        if shift is None:
            none_can_go.add(origin.worker)
            continue
        known[origin.worker] = [one for one in held if one.session != shift.session]
        workers, most = moved(workers, shift), most - 1
        yield shift


class Scaler:
    """`election`: among all processes that do so."""

    def __init__(self, registry: Registry, election: Election) -> None:
        self._registry = registry
        self._election = election

    async def run_once(self, rebalance: Rebalance | None, per_worker: int) -> None:
        """One step. `rebalance` None: sessions move only from workers that drain."""
        try:
            if await self._election.win(_HELD):
                await self._step(rebalance, per_worker)
        except (StoreAway, StoreRefused) as error:
            LOG.warning("scaling.broken_off", reason=str(error))

    async def _step(self, rebalance: Rebalance | None, per_worker: int) -> None:
        seen, known = await self._registry.summary(), await self._registry.scaling()
        await self._decide(demand_of(seen, known.unplaced, per_worker), known)
        policy, workers = rebalance or Rebalance(), list(seen.workers)
        for worker in seen.workers:
            if worker.drains is not None and worker.beat_left > 0 and worker.sessions:
                held = await self._registry.held_by(worker.worker)
                for shift in to_drain(worker, held, workers, policy.quiet):
                    if await self._move(shift, DRAIN):
                        workers = moved(workers, shift)
        if rebalance is not None:
            async for shift in to_move(self._registry, workers, rebalance.quiet, 1):
                await self._move(shift, BALANCE, rebalance.moves.interval)

    async def _decide(self, demand: Demand, known: Scaling) -> None:
        if known.decision is None and not demand.live and not demand.sessions:
            return  # there are existing workers only
        before = known.decision.wanted if known.decision else None
        wanted = want(before, demand, known.now / 1000)
        if await self._registry.decide(known, Decision(wanted, demand)) and before and wanted.workers != before.workers:
            LOG.info("workers.wanted", workers=wanted.workers, before=before.workers, sessions=demand.sessions)

    async def _move(self, shift: Shift, by: str, interval: float = 0.0) -> bool:
        outcome = await self._registry.shift(shift, by, interval)
        if outcome == "moved":
            LOG.info("session.moves", session=shift.session, worker=shift.origin, to=shift.to, by=by)
        return outcome == "moved"
