"""When a send may be given to its worker: not outside the hours of its limits, and not above their buckets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.limits.applicable import Bucket
from gateway.limits.limiter import Limiter

LOOK_EVERY = 30.0
"""Seconds after which what waits is looked at again at the latest, as the policies may have changed."""


@dataclass(frozen=True, slots=True)
class NotYet:
    why: str
    """For people."""
    kind: str
    """For the metrics."""
    wait: float
    """Seconds."""


def outside_hours(buckets: Sequence[Bucket], now: float) -> NotYet | None:
    """Of what a send meets; `now`: Unix seconds. None: it may go."""
    found = [(bucket.limit.hours.opens_in(now), bucket.limit) for bucket in buckets if bucket.limit.hours is not None]
    wait, limit = max(found, key=lambda one: one[0], default=(0.0, None))
    if limit is None or wait <= 0:
        return None
    return NotYet(f"limit {limit.id} sends {limit.hours} only", "hours", min(wait, LOOK_EVERY))


async def take(limiter: Limiter, buckets: Sequence[Bucket]) -> NotYet | None:
    """Takes its tokens from all of them, or from none. None: it may go. What `when_store_away` says is for requests
    that cannot wait: a send is not let through beside its bucket."""
    strict = [replace(bucket, limit=replace(bucket.limit, when_store_away="deny")) for bucket in buckets]
    decision = await limiter.take(strict)
    if decision.verdict == "pass":
        return None
    if decision.verdict == "unavailable":
        return NotYet(f"limit {decision.limit} cannot be decided right now", "pace", decision.retry_after)
    return NotYet(f"limit {decision.limit} has no token for it yet", "pace", min(decision.retry_after, LOOK_EVERY))
