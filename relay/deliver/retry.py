"""What becomes of a delivery after an attempt. No I/O.

A receiver that refuses everything and one that refuses one event answer in the same way. So what failed is believed to
be the event's own fault only when somebody else got through at the same time:

                     somebody else got a 2xx                    nobody did
    Failed, Refused  an attempt is spent, and `retry.for` goes  nothing is spent
                     on; with the last one a dead letter
    Rejected         again; rejected after that too, it is a    again, and nothing is spent
                     dead letter
    Paused           nothing is spent                           nothing is spent

Whatever it was, the session waits longer each time, by its own backoff, also where the circuit lets it through. Where
nothing is spent that is half a minute at most: nobody knows when the endpoint is back.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import random

from relay.deliver.backoff import MAX_RETRY_AFTER, delay
from relay.deliver.outcome import Delivered, Failed, NotSent, Outcome, Paused, Refused, Rejected, Superseded
from relay.policies import Retry
from relay.queue.codec import Delivery, Failures
from relay.queue.history_codec import summary_of
from relay.queue.queue import Disposition, Settlement

RECENT = 30.0
"""Seconds for which a 2xx shows that an endpoint answers, to an event that fails for the first time."""


class Evidence:
    """What was known of the endpoint when an attempt ended. Moments in unix seconds, by the store's clock, and as they
    were known when they were: had it been set meanwhile, what was before would else seem to be after.

    `max_pause`: seconds after which an endpoint that takes nothing is tried again.
    """

    def __init__(self, ok_at: float, now: float, max_pause: float) -> None:
        self.ok_at = ok_at
        """When the last POST that got a 2xx began, of any ordering key; 0: none is known."""
        self.now = now
        self.max_pause = max_pause


NO_EVIDENCE = Evidence(0.0, 0.0, MAX_RETRY_AFTER)


def others_got_through(failed_at: float, ok_at: float, now: float) -> bool:
    """Whether the endpoint answered somebody, as far as an event can tell that failed now and before at `failed_at`.

    A POST that began after that and got a 2xx tells it: the event itself had none. `failed_at` 0: it had not failed.
    """
    return ok_at > (failed_at or now - RECENT)


def settle(
    delivery: Delivery,
    outcome: Outcome,
    retry: Retry,
    evidence: Evidence,
    *,
    ms: float = 0.0,
    chance: float | None = None,
) -> Settlement:
    """`ms`: how long the attempt took. `chance` replaces the random number."""
    if isinstance(outcome, Delivered):
        return Settlement(delivery, "delivered", 0, summary_of(outcome.status, ms, delivery.type))
    if isinstance(outcome, NotSent):
        return Settlement(delivery, "return", int(outcome.wait * 1000))
    if isinstance(outcome, Superseded):
        return Settlement(delivery, "superseded", 0, outcome.by)
    before = delivery.failures
    spent = not isinstance(outcome, Paused) and others_got_through(before.at, evidence.ok_at, evidence.now)
    summary = summary_of(outcome.status, ms, outcome.reason)
    end = _end(delivery, outcome, retry, evidence) if spent or isinstance(outcome, Rejected) else None
    if end is not None:
        return Settlement(delivery, "dead", end, summary)
    disposition: Disposition = "unspent"
    if isinstance(outcome, Rejected):
        disposition, spent = "rejected", False
    elif spent:
        disposition = "retry"
    seconds = _wait(delivery, outcome, retry, evidence, spent, chance)
    return Settlement(delivery, disposition, int(seconds * 1000), summary, evidence.now)


def settle_batch(
    deliveries: Sequence[Delivery], outcomes: Sequence[Outcome], retry: Retry, evidence: Evidence, *, ms: float = 0.0
) -> list[Settlement]:
    """Of one POST. What failed together is due again together."""
    chance = random()
    return [
        settle(delivery, outcome, retry, evidence, ms=ms, chance=chance)
        for delivery, outcome in zip(deliveries, outcomes, strict=True)
    ]


def _end(delivery: Delivery, outcome: Outcome, retry: Retry, evidence: Evidence) -> str | None:
    """Why it is a dead letter; None: it is not. It fails on its own, or the outcome is Rejected.

    A first failure is never the last: it may be the first of an outage, which then takes the others, too.
    """
    before, reason = delivery.failures, "" if isinstance(outcome, Delivered) else outcome.reason
    if isinstance(outcome, Rejected):
        proven = outcome.status is None or outcome.is_proven
        since = before.was_rejected and others_got_through(before.at, evidence.ok_at, evidence.now)
        return reason if proven or since else None
    if not before.at:
        return None
    if delivery.attempt >= retry.attempts:
        return f"{reason}; attempt {retry.attempts} of {retry.attempts}"
    if retry.within is not None and _failing_for(before, evidence) >= retry.within:
        return f"{reason}; attempt {delivery.attempt}, its time to retry is over"
    return None


def _wait(
    delivery: Delivery, outcome: Outcome, retry: Retry, evidence: Evidence, spent: bool, chance: float | None
) -> float:
    """Seconds until it is tried again."""
    longest = min(evidence.max_pause, MAX_RETRY_AFTER)
    floor = min(_retry_after(outcome), longest)
    if not spent:  # the circuit spares the endpoint; a session need not be late when it is back
        return delay(delivery.failures.unspent + 1, retry.base, min(retry.cap, longest, RECENT), floor, chance)
    seconds = delay(delivery.attempt, retry.base, retry.cap, floor, chance)
    if retry.within is None:
        return seconds
    # The last attempt is at the end of the time, unless the endpoint asked for more.
    left = retry.within - _failing_for(delivery.failures, evidence)
    return max(min(seconds, left), floor)


def _failing_for(before: Failures, evidence: Evidence) -> float:
    """Seconds in which it kept failing while others got through, the time since the last failure included."""
    return before.for_s + max(0.0, evidence.now - before.at) if before.at else 0.0


def _retry_after(outcome: Outcome) -> float:
    return (outcome.retry_after or 0.0) if isinstance(outcome, (Failed, Refused)) else 0.0
