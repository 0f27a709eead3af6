"""Whether what is due is leased: `readyz` and `status` look at it, so that a relay that does nothing is noticed."""

from __future__ import annotations

import time

from relay.circuit import Circuit
from relay.queue.queue import Counts, Queue

LEASE_TIMEOUT = 30.0
"""Seconds within which something that is due must be leased."""


class Progress:
    """Compares with what it saw before, so it must be called regularly. `now`: monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def note(self, endpoint: str, counts: Counts, interval: float, now: float | None = None) -> float:
        """For how many seconds something has been due and was not leased; 0 where that is not long.

        `interval`: seconds between two attempts of the endpoint's pace.
        """
        now = time.monotonic() if now is None else now
        claims, since = self._seen.get(endpoint, (-1, now))
        timeout = LEASE_TIMEOUT + 2 * interval
        if counts.claims != claims or counts.oldest_due < timeout or counts.leased:
            self._seen[endpoint] = (counts.claims, now)
            return 0.0
        return now - since if now - since >= timeout else 0.0

    async def stalled(self, queue: Queue, circuit: Circuit, now: float | None = None) -> bool:
        """Whether something has long been due, could be sent, and was not leased. Raises StoreAway or StoreRefused."""
        if not self.note(queue.endpoint, await queue.counts(), circuit.interval, now):
            return False
        return (await circuit.view()).state == "closed"
