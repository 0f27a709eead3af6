"""What becomes of deliveries after an attempt: pure decisions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import random

from relay.deliver.backoff import MAX_RETRY_AFTER, delay
from relay.deliver.outcome import Delivered, Failed, Outcome, Paused, Rejected
from relay.policies import Retry
from relay.queue.codec import Delivery
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
    """`ms` the attempt took. `chance` takes the place of the dice, `now` (unix seconds) that of the clock."""
    told = f"{outcome.status or '-'} {ms:.0f}"
    match outcome:
        case Delivered():
            return Settlement(delivery, "o", 0, told)
        case Rejected(reason):
            return Settlement(delivery, "d", reason, f"{told} {reason}")
        case Paused(reason):
            # When is for the circuit to say, which opens now; spread, for the case that a person holds it closed.
            return Settlement(delivery, "p", _ms(delay(1, retry.base, retry.cap, None, chance)), f"{told} {reason}")
        case Failed(reason, retry_after):
            told = f"{told} {reason}"
            if delivery.attempt >= retry.attempts:
                return Settlement(delivery, "d", f"{reason}; attempt {delivery.attempt} of {retry.attempts}", told)
            left = _left(delivery, retry, time.time() if now is None else now)
            if left is not None and left <= 0:
                return Settlement(
                    delivery, "d", f"{reason}; attempt {delivery.attempt}, its time to retry is over", told
                )
            seconds = delay(delivery.attempt, retry.base, retry.cap, retry_after, chance)
            if left is not None:  # the last attempt is at the end of the time, unless the endpoint asked for more
                seconds = max(min(seconds, left), min(retry_after or 0.0, MAX_RETRY_AFTER))
            return Settlement(delivery, "r", _ms(seconds), told)


def settle_batch(
    deliveries: Sequence[Delivery], outcomes: Sequence[Outcome], retry: Retry, *, ms: float = 0.0
) -> list[Settlement]:
    """Of one POST. What failed together comes again together."""
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
