"""Looks after the sessions that somebody runs: what is wrong with them is noted once, cured by a restart where the
policies say so, and noted once more when it is over.

One process at a time looks, and another goes on where it was killed. What was found is in the store, so it is told once
whoever finds it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from sessions.lifecycle.cleaning import Record
from sessions.lifecycle.election import Election
from sessions.lifecycle.faults import Fault, fault_of, is_over, why_not_restarted
from sessions.lifecycle.policies import Watch
from sessions.lifecycle.restarting import Restarting
from sessions.metrics import session_restart
from sessions.records import SessionRow
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.lifecycle")
EVERY = 0.5
"""Seconds between two looks whether it is due."""
BY = "watch"
_HELD = 20.0
"""Seconds after which another process goes on, where one was killed."""
_PAGE = 500
_LOOKED_AT = 20_000
"""Sessions of one look, at most; the next one goes on behind them."""
_AT_ONCE = 4
"""Restarts that go on at a time, and one at each worker: a browser that starts takes all that a machine has."""
IsSending = Callable[[str], bool]
"""Whether a send to a session is in flight in this process, right now."""


class Watcher:
    """`election`: among all processes that watch. `record` gets each restart. `held`: seconds after which another goes
    on where this one ends."""

    def __init__(
        self, registry: Registry, election: Election, is_sending: IsSending, record: Record, held: float = _HELD
    ) -> None:
        self._registry = registry
        self._election = election
        self._is_sending = is_sending
        self._record = record
        self._held = held
        self._go_on = ""
        self._again = 0.0
        self._restarts: dict[str, asyncio.Task[None]] = {}

    async def run_once(self, policy: Watch, restarting: Restarting) -> None:
        """Costs nothing until it is due. Where it ends early another look goes on."""
        if time.monotonic() < self._again:
            return
        self._again = time.monotonic() + policy.every / 2
        try:
            if await self._election.win(self._held):
                await self._look(policy, restarting)
                await self._election.done(policy.every)
        except (StoreAway, StoreRefused) as error:
            LOG.warning("watch.broken_off", reason=str(error))

    async def close(self) -> None:
        """What its workers were asked already goes on there."""
        for task in self._restarts.values():
            task.cancel()
        await asyncio.gather(*self._restarts.values(), return_exceptions=True)

    async def settled(self) -> None:
        """Until no restart goes on that this process has begun."""
        await asyncio.gather(*self._restarts.values(), return_exceptions=True)

    async def _look(self, policy: Watch, restarting: Restarting) -> None:
        now, found, over = await self._registry.time() / 1000, Counter[str](), 0
        for _ in range(0, _LOOKED_AT, _PAGE):
            page = await self._registry.page(self._go_on, _PAGE)
            for row in page.rows:
                fault = fault_of(row, policy, now)
                found[await self._note(row, fault)] += 1
                over += fault is None and await self._end(row, policy, now)
                if fault is not None:
                    self._restart(row, fault, policy, restarting, now)
            self._go_on = page.go_on
            if not self._go_on:
                break
            await self._election.win(self._held)
        if found["begun"] or over:
            LOG.info("watch.looked", unwell=found["begun"], recovered=over)

    async def _note(self, row: SessionRow, fault: Fault | None) -> str:
        if fault is None or (row.fault is not None and row.fault.kind == fault.kind):
            return "none"
        what = await self._registry.unwell(
            row.session, fault.kind, fault.since, fault.reason, state=row.state, as_of=row.since, by=BY
        )
        if what != "none":
            about = {"session": row.session, "worker": row.worker, "kind": fault.kind}
            LOG.warning("session.unhealthy", **about, reason=fault.reason)
        return what

    async def _end(self, row: SessionRow, policy: Watch, now: float) -> bool:
        how = is_over(row, policy, now) if row.fault is not None else None
        over = None
        if how is not None:
            over = await self._registry.well(row.session, how, state=row.state, as_of=row.since, by=BY)
        if over is not None:
            LOG.info("session.recovered", session=row.session, kind=over.kind, lasted=round(over.lasted), how=how)
        return over is not None

    def _restart(self, row: SessionRow, fault: Fault, policy: Watch, restarting: Restarting, now: float) -> None:
        """At most one at each worker, and a few in all; the others' turn comes with the next looks."""
        self._restarts = {worker: task for worker, task in self._restarts.items() if not task.done()}
        if fault.kind not in policy.restart or len(self._restarts) >= _AT_ONCE or row.worker in self._restarts:
            return
        if row.worker is None or self._is_sending(row.session) or why_not_restarted(row, fault, policy, now):
            return
        self._restarts[row.worker] = asyncio.create_task(self._restart_one(row, fault, policy, restarting))

    async def _restart_one(self, row: SessionRow, fault: Fault, policy: Watch, restarting: Restarting) -> None:
        try:
            done = await restarting.restart(row, BY, policy.restarts)
        except (StoreAway, StoreRefused) as error:
            LOG.warning("session.not_restarted", session=row.session, worker=row.worker, why=str(error))
            return
        if done.outcome in ("restarted", "failed"):
            session_restart(fault.kind, done.outcome)
            about = {"session": row.session, "worker": done.worker, "why": fault.reason, "outcome": done.outcome}
            await self._record("restart_session", {**about, "by": BY})
