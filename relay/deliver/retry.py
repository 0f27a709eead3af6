"""What becomes of a delivery after an attempt. No I/O."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import random

from relay.deliver.backoff import MAX_RETRY_AFTER, delay
from relay.deliver.outcome import Delivered, Failed, Outcome, Paused, Rejected
from relay.policies import Retry
from relay.queue.codec import Delivery
from relay.queue.history_codec import summary_of
from relay.queue.queue import Settlement


def settle(
    delivery: Delivery,
    outcome: Outcome,
    retry: Retry,
    *,
    ms: float = 0.0,
    chance: float | None = None,
    now: float | None = None,
) -> Settlement:
    """`ms`: how long the attempt took. `chance` replaces the random number, `now` (unix seconds) the clock."""
    reason = "" if isinstance(outcome, Delivered) else outcome.reason
    summary = summary_of(outcome.status, ms, reason)
    match outcome:
        case Delivered():
            return Settlement(delivery, "delivered", 0, summary)
        case Rejected():
            return Settlement(delivery, "dead", reason, summary)
        case Paused():
            # The circuit opens now and says when it goes on; this delay is for when a person holds the circuit closed.
            return Settlement(delivery, "return", _ms(delay(1, retry.base, retry.cap, None, chance)), summary)
        case Failed(_, retry_after):
            if delivery.attempt >= retry.attempts:
                spent = f"{reason}; attempt {delivery.attempt} of {retry.attempts}"
                return Settlement(delivery, "dead", spent, summary)
            left = _left(delivery, retry, time.time() if now is None else now)
            if left is not None and left <= 0:
                over = f"{reason}; attempt {delivery.attempt}, its time to retry is over"
                return Settlement(delivery, "dead", over, summary)
            seconds = delay(delivery.attempt, retry.base, retry.cap, retry_after, chance)
            if left is not None:  # the last attempt is at the end of the time, unless the endpoint asked for more
                seconds = max(min(seconds, left), min(retry_after or 0.0, MAX_RETRY_AFTER))
            return Settlement(delivery, "retry", _ms(seconds), summary)


def settle_batch(
    deliveries: Sequence[Delivery], outcomes: Sequence[Outcome], retry: Retry, *, ms: float = 0.0
) -> list[Settlement]:
    """Of one POST. What failed together is due again together."""
    chance = random()
    return [
        settle(delivery, outcome, retry, ms=ms, chance=chance)
        for delivery, outcome in zip(deliveries, outcomes, strict=True)
    ]


def _left(delivery: Delivery, retry: Retry, now: float) -> float | None:
    """Seconds left for retries; None: as long as there are attempts."""
    return None if retry.within is None else delivery.accepted_at + retry.within - now


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
