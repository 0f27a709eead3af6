"""How a session is ended: one that an existing worker runs is closed there first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sessions.asking import Asking, NoAnswer
from sessions.ending import Why
from sessions.policies import ExistingWorker
from sessions.registry import Ended, Registry, StillRuns
from sluice.observe.log import Log

LOG = Log("sessions.lifecycle")
Outcome = Literal["ended", "changed", "not_closed"]
WITHIN = 20.0
"""Seconds for a worker to close one."""


class Closing:
    """`workers`: the existing ones, which know nothing of us. Each is asked as Laravel asks it, by its own DELETE: it
    closes the browser, and keeps the login on its disk."""

    def __init__(self, registry: Registry, workers: Sequence[ExistingWorker]) -> None:
        self._registry = registry
        self._workers = {worker.name: worker for worker in workers}

    async def end(
        self,
        session: str,
        why: Why,
        *,
        by: str,
        stays: str = "",
        state: str = "",
        since: float | None = None,
        unowned: bool = False,
    ) -> Outcome:
        """`state`, `since`: as it must still be; `unowned`: only where nobody has it.

        Raises StoreAway and StoreRefused.
        """
        found = await self._registry.end(session, why, by=by, stays=stays, state=state, since=since, unowned=unowned)
        if isinstance(found, StillRuns):
            if not await self._closed(found.worker, session):
                return "not_closed"
            found = await self._registry.end(session, why, by=by, stays=stays, closed=True)
        return "ended" if isinstance(found, Ended) else "changed"

    async def _closed(self, name: str, session: str) -> bool:
        worker = self._workers.get(name)
        if worker is None:
            return False
        asking = Asking(worker, WITHIN)
        try:
            await asking.delete(session)
        except NoAnswer as error:
            LOG.warning("session.not_closed", session=session, worker=name, why=str(error))
            return False
        finally:
            await asking.close()
        return True
