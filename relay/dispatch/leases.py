"""The leases of what is under way: short, so that the deliveries of a killed process come back soon, and extended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from relay.queue.codec import Delivery
from relay.queue.queue import Queue
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("relay")
_STORE_AWAY_SLEEP = 0.2


class Leases:
    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._held: dict[bytes, tuple[Delivery, float]] = {}
        """And since when (monotonic)."""

    def begin(self, deliveries: Sequence[Delivery], now: float) -> None:
        for delivery in deliveries:
            self._held[delivery.lease] = (delivery, now)

    def end(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._held.pop(delivery.lease, None)

    async def keep(self) -> None:
        """Extends, for ever, those of which a third is used, or more."""
        third = self._queue.lease / 3
        pause = third
        while True:
            await asyncio.sleep(pause)
            try:
                await self._extend(older_than=third * 0.9)
                pause = third
            except (StoreAway, StoreRefused):
                pause = min(third, _STORE_AWAY_SLEEP)

    async def _extend(self, *, older_than: float) -> None:
        now = time.monotonic()
        held = [delivery for delivery, since in self._held.values() if now - since >= older_than]
        if not held:
            return
        for delivery in await self._queue.extend(held):
            if self._held.pop(delivery.lease, None):
                LOG.warning("delivery.lease_lost", id=delivery.id, endpoint=self._queue.endpoint)
