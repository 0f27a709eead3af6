"""What a request's buckets decide, given how many tokens they have. No I/O, no clock.

take.lua decides the same on the levels in the store; a property test holds it to `decide`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.limits.applicable import DELAY, HOLD, OBSERVE, REFUSE, Bucket
from relay.queue.codec import DelayedBy

TOLERANCE: Final = 1e-9
"""As in take.lua: a bucket refilled in steps of 1/3 must not fall short of one by a rounding error."""

HAD, REFUSES, LACKS = "h", "r", "l"
"""What a bucket says, as in take.lua. LACKS: it has not the tokens, and refuses nothing."""

Verdict = Literal["pass", "drop", "hold", "reject", "unavailable"]
Outcome = Literal["allowed", "delayed", "dropped", "rejected", "would_reject"]


@dataclass(slots=True, init=False)
class Decision:
    """`hold`: it passes when its buckets have refilled. `unavailable`: the store is away and a limit says `deny` then.
    Never changed."""

    verdict: Verdict
    limit: str | None = None
    """The limit that refuses or delays, and for longest where several do."""
    retry_after: float = 0.0
    """Seconds until it would pass, when refused."""
    delay: float = 0.0
    """Seconds before a relayed event may be delivered, when it passes."""
    violated: tuple[str, ...] = ()
    """All limits that refuse, as far as is known."""
    levels: Sequence[float] = ()
    """The tokens of each of its buckets afterwards; empty where that is not known."""
    marks: str = ""
    """What each bucket said: HAD, REFUSES or LACKS; empty where all had the tokens."""
    delayed_by: DelayedBy | None = None

    def __init__(
        self,
        verdict: Verdict,
        limit: str | None = None,
        retry_after: float = 0.0,
        delay: float = 0.0,
        violated: tuple[str, ...] = (),
        levels: Sequence[float] = (),
        marks: str = "",
        delayed_by: DelayedBy | None = None,
    ) -> None:
        self.verdict = verdict
        self.limit = limit
        self.retry_after = retry_after
        self.delay = delay
        self.violated = violated
        self.levels = levels
        self.marks = marks
        self.delayed_by = delayed_by


PASS: Final = Decision("pass")


def decide(buckets: Sequence[Bucket], levels: Sequence[float]) -> Decision:
    """All or nothing: a refused request takes from no bucket, but from those that only observe and have the tokens.

    `levels`: the tokens of each bucket now; below 0: the debt of what is delayed.
    """
    marks = ""
    retry_after = delay = 0.0
    for bucket, level in zip(buckets, levels, strict=True):
        if level >= bucket.cost - TOLERANCE:
            marks += HAD
            continue
        refuses = bucket.mode in (REFUSE, HOLD)
        marks += REFUSES if refuses else LACKS
        if refuses:
            retry_after = max(retry_after, wait(bucket, level))
        elif bucket.mode == DELAY:
            delay = max(delay, wait(bucket, level))
    refused = REFUSES in marks
    after = [
        level - bucket.cost if (mark == HAD if bucket.mode == OBSERVE else not refused) else level
        for bucket, level, mark in zip(buckets, levels, marks, strict=True)
    ]
    lacking = refused or LACKS in marks
    return conclude(buckets, marks if lacking else "", retry_after, delay, after)


def conclude(
    buckets: Sequence[Bucket], marks: str, retry_after: float, delay: float, levels: Sequence[float]
) -> Decision:
    """The decision in full, of what `decide` or take.lua has found. `levels`: afterwards.

    What one limit drops and another one rejects is rejected: its sender learns that it has to send it again. What is
    rejected or dropped is not held first.
    """
    if REFUSES not in marks:
        if not delay:
            return Decision("pass", levels=levels, marks=marks)
        by = _delays_longest(buckets, levels)
        return Decision("pass", by.limit, delay=delay, levels=levels, marks=marks, delayed_by=by)
    violated = [(bucket, levels[i]) for i, bucket in enumerate(buckets) if marks[i] == REFUSES]
    rejecting = [pair for pair in violated if pair[0].mode != HOLD and pair[0].limit.over != "drop"]
    dropping = [pair for pair in violated if pair[0].limit.over == "drop"]
    longest, _ = max(rejecting or dropping or violated, key=lambda pair: wait(*pair))
    return Decision(
        "reject" if rejecting else "drop" if dropping else "hold",
        longest.limit.id,
        retry_after=retry_after,
        violated=tuple([bucket.limit.id for bucket, _ in violated]),
        levels=levels,
        marks=marks,
    )


def _delays_longest(buckets: Sequence[Bucket], levels: Sequence[float]) -> DelayedBy:
    """By the debt that is left, for this request's tokens have been taken."""
    debts = [(-level * bucket.interval, bucket) for bucket, level in zip(buckets, levels, strict=True)]
    delaying = sorted([pair for pair in debts if pair[1].mode == DELAY], key=lambda pair: -pair[0])
    bucket, others = delaying[0][1], max(0.0, delaying[1][0]) if len(delaying) > 1 else 0.0
    return DelayedBy(bucket.limit.id, bucket.interval, bucket.burst, others)


def wait(bucket: Bucket, level: float) -> float:
    """Seconds until there are as many tokens as it costs."""
    return max(0.0, (bucket.cost - level) * bucket.interval)


def outcome(decision: Decision, bucket: Bucket, i: int) -> Outcome | None:
    """What the i-th bucket did. None: it would have let pass what another one refused, or what comes of it is not
    known while the request is held."""
    mark = decision.marks[i] if decision.marks else HAD
    if bucket.mode == OBSERVE:
        return "allowed" if mark == HAD else "would_reject"
    if decision.verdict == "pass":
        return "allowed" if mark == HAD else "delayed"
    if mark == REFUSES and decision.verdict != "hold":
        return "dropped" if bucket.limit.over == "drop" else "rejected"
    return None
