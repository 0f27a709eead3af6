"""The leases that this process holds: extended while they are held, and settled by the next poll after they ended.

They are short, so that the deliveries of a killed process come back soon.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence

from relay.queue.codec import Delivery
from relay.queue.queue import Queue, Settlement
from relay.queue.suspects import SUSPECT
from sluice.observe.log import Log
from sluice.process.boottime import boottime
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("relay")
_STORE_AWAY_SLEEP = 0.2
_USABLE = 0.9  # of a lease: a POST begins before so much of it is over
_SUSPECT_WAIT = 200  # ms until it is seen whether another suspect is still in flight


class Leases:
    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._held: dict[bytes, tuple[Delivery, float]] = {}
        """And when the poll that leased it, or the call that extended it, was sent: by `boottime`."""
        self._ended: deque[Settlement] = deque()

    @property
    def are_settled(self) -> bool:
        """Whether the queue knows all that has ended."""
        return not self._ended

    def begin(self, deliveries: Sequence[Delivery], sent_at: float) -> None:
        """`sent_at`: by `boottime`, when the poll that leased them was sent."""
        for delivery in deliveries:
            self._held[delivery.lease] = (delivery, sent_at)

    def begin_by(self, deliveries: Sequence[Delivery]) -> float:
        """Until when (`boottime`) a POST of these may begin. After that they may be another's.

        A process that was stopped, or whose machine was, learns it here.
        """
        first = math.inf
        for delivery in deliveries:
            held = self._held.get(delivery.lease)
            if held is None:
                return -math.inf
            first = min(first, held[1])
        return first + self._queue.lease * _USABLE

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
        sent_at = boottime()
        held = [delivery for delivery, since in self._held.values() if sent_at - since >= older_than]
        if not held:
            return
        lost = {delivery.lease for delivery in await self._queue.extend(held)}
        for delivery in held:
            if delivery.lease not in self._held:
                continue  # it has ended meanwhile
            if delivery.lease in lost:
                del self._held[delivery.lease]
                LOG.warning("delivery.lease_lost", id=delivery.id, endpoint=self._queue.endpoint)
            else:
                self._held[delivery.lease] = (delivery, sent_at)

    def _end(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._held.pop(delivery.lease, None)
