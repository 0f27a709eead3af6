"""The leases that this process holds: extended while they are held, and settled by the next poll after they ended.

They are short, so that the deliveries of a killed process come back soon.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from relay.dispatch.slots import SUSPECT
from relay.queue.codec import Delivery
from relay.queue.queue import Queue, Settlement
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("relay")
_STORE_AWAY_SLEEP = 0.2
_SUSPECT_WAIT = 200  # ms until it is seen whether another suspect is still in flight


class Leases:
    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._held: dict[bytes, tuple[Delivery, float]] = {}
        """And since when (monotonic)."""
        self._ended: deque[Settlement] = deque()

    @property
    def are_settled(self) -> bool:
        """Whether the queue knows all that has ended."""
        return not self._ended

    def begin(self, deliveries: Sequence[Delivery], now: float) -> None:
        for delivery in deliveries:
            self._held[delivery.lease] = (delivery, now)

    def settle(self, deliveries: Sequence[Delivery], settled: Sequence[Settlement]) -> None:
        """All of one POST at once, so that they go in one poll."""
        self._ended.extend(settled)
        self._end(deliveries)

    def return_unsent(self, deliveries: Sequence[Delivery]) -> None:
        self._end(deliveries)
        self._ended.extend(
            Settlement(delivery, "return", _SUSPECT_WAIT if delivery.crash_count >= SUSPECT else 0)
            for delivery in deliveries
        )

    def ended(self) -> list[Settlement]:
        """What the next poll has to settle; they stay here until `note_settled`."""
        return list(self._ended)

    def note_settled(self, settled: Sequence[Settlement], refused: Sequence[Delivery]) -> None:
        """The queue has taken in what `ended` returned."""
        for _ in settled:
            self._ended.popleft()
        for delivery in refused:
            LOG.warning("delivery.settled_late", id=delivery.id, endpoint=self._queue.endpoint)

    async def extend_forever(self) -> None:
        """Extends those of which a third is used, or more."""
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

    def _end(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._held.pop(delivery.lease, None)
