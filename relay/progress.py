"""Whether what is due is claimed: what `readyz` looks at, so that a relay that is alive and does nothing is seen."""

from __future__ import annotations

import time

from relay.circuit import Circuit
from relay.queue.queue import Queue

PATIENCE = 30.0
"""Seconds in which something that is due must be claimed."""


class Progress:
    """Remembers the claims it has seen, so ask it now and then. `now`: monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    async def stalled(self, queue: Queue, circuit: Circuit, now: float | None = None) -> bool:
        """Something has been due for long, could be sent, and nothing was claimed. Raises StoreAway or StoreRefused."""
        now = time.monotonic() if now is None else now
        counts = await queue.counts()
        claims, since = self._seen.get(queue.endpoint, (-1, now))
        patience = PATIENCE + 2 * circuit.interval
        if counts.claims != claims or counts.oldest_due < patience or counts.leased:
            self._seen[queue.endpoint] = (counts.claims, now)
            return False
        if now - since < patience:
            return False
        return (await circuit.view()).state == "closed"
