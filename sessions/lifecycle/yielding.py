"""Sessions on existing workers that should yield their phone to another one are closed, if the policies say so.

Such a worker knows nothing of us. It is asked as Laravel asks it, by its own DELETE, which closes the browser and keeps
the login on its disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from sessions.asking import Asking, NoAnswer
from sessions.policies import ExistingWorker
from sessions.records import Rival
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.lifecycle")
EVERY = 2.0
"""Seconds between two looks."""
_CLAIM = 30.0
"""Seconds for which one gateway has such a session to itself, and after which it is tried again."""
_WITHIN = 20.0
"""Seconds for a worker to close one."""
_AT_ONCE = 10


class Yielding:
    """`run_once` costs a round trip while there is nothing to do."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._workers: dict[str, ExistingWorker] = {}

    def apply(self, workers: Sequence[ExistingWorker], *, enforce: bool) -> None:
        """The workers that are asked; without `enforce` none."""
        self._workers = {worker.name: worker for worker in workers} if enforce else {}

    async def run_once(self) -> None:
        if not self._workers:
            return
        try:
            for rival in await self._registry.rivals(_AT_ONCE, claim=_CLAIM):
                await self._close(rival)
        except (StoreAway, StoreRefused):
            return  # the claims end by themselves

    async def _close(self, rival: Rival) -> None:
        worker = self._workers.get(rival.worker)
        if worker is None:
            return
        asking = Asking(worker, _WITHIN)
        about = {"session": rival.session, "worker": rival.worker, "stays": rival.stays}
        try:
            await asking.delete(rival.session)
        except NoAnswer as error:
            LOG.warning("session.not_closed", **about, why=str(error))
            return
        finally:
            await asking.close()
        LOG.info("session.superseded", **about)
        await self._registry.end(rival.session, "superseded", stays=rival.stays, closed=True)
