"""Ends leases at the moment they end, and gives orphans to workers of ours at once.

Every gateway runs one. They need not know of each other: each step is a script that leaves alone what another has done.
"""

from __future__ import annotations

import asyncio

from sessions.changes import Change, Changes, Everything
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.process.loops import Stop
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.keeper")
_ROUND = 0.2
_LOOK_AGAIN = 1.0
_LIMIT = 50


class Keeper:
    """`changes` wakes it when somebody has lost a session."""

    def __init__(self, registry: Registry, changes: Changes) -> None:
        self._registry = registry
        self._changes = changes
        self._wake = asyncio.Event()
        self._migrated = False
        self._failing = False

    async def run(self, stop: Stop) -> None:
        """Until stopped. While the store is away it tries again each second."""
        unsubscribe = self._changes.subscribe(self._changed)
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stop.requested:
                self._wake.clear()
                try:
                    seconds = await self.run_once()
                    self._failing = False
                except (StoreAway, StoreRefused) as error:
                    if not self._failing:
                        LOG.warning("keeper.failed", reason=str(error))
                    self._failing, seconds = True, _LOOK_AGAIN
                woken = asyncio.create_task(self._wake.wait())
                await asyncio.wait((woken, stopped), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
        finally:
            stopped.cancel()
            unsubscribe()

    async def run_once(self) -> float:
        """Ends what has run out, and grants one round. Answers the seconds until it has to be called again."""
        while not self._migrated:
            self._migrated = not await self._registry.migrate()
        lapsed = await self._registry.lapse(_LIMIT)
        ended = lapsed.moved
        while lapsed.moved >= _LIMIT:
            lapsed = await self._registry.lapse(_LIMIT)
            ended += lapsed.moved
        if ended:
            LOG.warning("sessions.lapsed", sessions=ended)
        wait = self._registry.lease / 3
        if lapsed.next_end_ms is not None:
            wait = min(wait, lapsed.next_end_ms / 1000 + 0.001)
        if lapsed.orphans:
            granted = await self._registry.place_orphans()
            wait = min(wait, _ROUND if granted else _LOOK_AGAIN)
        return wait

    def _changed(self, what: Change | Everything) -> None:
        if isinstance(what, Everything) or not what.worker:
            self._wake.set()
