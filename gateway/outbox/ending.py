"""How a send ends that was given to its worker, or is put off: noted in the store before the queue hears of it."""

from __future__ import annotations

import asyncio
import time

from gateway.outbox import metrics
from gateway.outbox.results import Ended, Results
from gateway.outbox.stored import is_keyed
from gateway.policies.limits import MAX_HOLD
from gateway.problems import Refusal
from gateway.workers.send_records import KEPT_FOR, Outcome
from relay.deliver import outcome as deliveries
from relay.deliver.outcome import Delivered, NotSent, Rejected
from relay.queue.codec import Delivery
from sluice.store.client import StoreAway, StoreRefused

GIVEN_UP_AFTER = 86400.0
"""Seconds for which nobody can be asked; then it is a dead letter."""
_SOONEST, _LATEST = 0.5, 30.0
_AGAIN = 0.2
_ENDED_WITHIN = 120.0
_LATE = MAX_HOLD + 5.0
"""Seconds after which nobody waits any more for the answer to a send that was not repeated."""


class Endings:
    """Of one process. While the store is away its methods wait for it, or raise: others, who would find the note that a
    send was given to a worker, would have to take it for unknown."""

    def __init__(self, results: Results) -> None:
        self.dedupe = 0.0
        """Seconds in which a repeat of a send with a key of its caller's gets what came of it."""
        self._results = results

    async def end(
        self, delivery: Delivery, worker: str, outcome: Outcome, *, dead: str = "", dead_if_promised: str = ""
    ) -> deliveries.Outcome:
        """`dead`: why it is a dead letter, whatever its caller was told. Raises StoreAway, StoreRefused."""
        kept = max(KEPT_FOR, self.dedupe) if is_keyed(delivery) else KEPT_FOR
        late = time.time() - delivery.accepted_at > _LATE
        until = time.monotonic() + _ENDED_WITHIN
        while True:
            try:
                ended = await self._results.end(
                    *(delivery.id, delivery.session or "", worker, outcome),
                    dead=dead,
                    dead_if_promised=dead or dead_if_promised,
                    kept=kept,
                    promise=late,
                )
            except (StoreAway, StoreRefused):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(_AGAIN)
            else:
                return settled(ended, outcome.status)

    async def put_off(
        self, delivery: Delivery, why: str, kind: str, attempt: str = "", *, at_least: float = 0.0
    ) -> deliveries.Outcome:
        """It was not sent in this attempt for certain. Raises StoreAway, StoreRefused."""
        metrics.put_off(kind)
        stuck = await self._results.put_off(delivery.id, delivery.session or "", attempt)
        if stuck < GIVEN_UP_AFTER:
            return NotSent(why, wait=max(at_least, min(_LATEST, max(_SOONEST, stuck / 5))))
        dead = f"it could not be given to a worker for a day: {why}"
        metrics.send("given_up")
        return await self.end(delivery, "", Refusal(503, dead), dead=dead)

    async def without_store(self, delivery: Delivery, error: Exception, unasked: str | None) -> deliveries.Outcome:
        """`unasked`: the attempt in which it may be noted as given to a worker, and was not: that is said as soon as
        possible."""
        until = time.monotonic() + _ENDED_WITHIN
        while unasked is not None and time.monotonic() < until:
            try:
                await self._results.put_off(delivery.id, delivery.session or "", unasked)
                break
            except (StoreAway, StoreRefused):
                await asyncio.sleep(_AGAIN)
        return NotSent(f"the store: {error}", wait=_SOONEST)


def settled(ended: Ended, status: int = 200) -> deliveries.Outcome:
    """What the queue is told. Nothing counts against the endpoint: each worker fails for itself."""
    return Rejected(ended.dead, None) if ended.dead else Delivered(status)
