"""Whether what is due is leased: `readyz` looks at it, so that a relay that is alive but does nothing is noticed."""

from __future__ import annotations

import time

from relay.circuit import Circuit
from relay.queue.queue import Queue

LEASE_TIMEOUT = 30.0
"""Seconds within which something that is due must be leased."""


class Progress:
    """Compares with what it saw before, so it must be called regularly. `now`: monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    async def stalled(self, queue: Queue, circuit: Circuit, now: float | None = None) -> bool:
        """Whether something has long been due, could be sent, and was not leased. Raises StoreAway or StoreRefused."""
        now = time.monotonic() if now is None else now
        counts = await queue.counts()
        claims, since = self._seen.get(queue.endpoint, (-1, now))
        timeout = LEASE_TIMEOUT + 2 * circuit.interval
        if counts.claims != claims or counts.oldest_due < timeout or counts.leased:
            self._seen[queue.endpoint] = (counts.claims, now)
            return False
        if now - since < timeout:
            return False
        return (await circuit.view()).state == "closed"
