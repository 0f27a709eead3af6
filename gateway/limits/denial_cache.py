"""Used-up buckets, remembered in this process until they may pass: a flood costs no round trips. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gateway.limits.applicable import REFUSE, Bucket

MAX_SECONDS = 10.0
"""A refusal is believed for no longer: the store may have been emptied since."""
MAX_KEYS = 50_000


@dataclass(slots=True)
class _Denial:
    believed_until: float
    passes_at: float
    interval: float
    burst: int
    cost: int


class DenialCache:
    """Times are seconds of one monotonic clock. Never refuses longer than the store would; in doubt it is asked."""

    def __init__(self) -> None:
        self._denials: OrderedDict[str, _Denial] = OrderedDict()

    def __len__(self) -> int:
        return len(self._denials)

    def remember(self, bucket: Bucket, asked_at: float, now: float, wait: float) -> None:
        """At some moment between `asked_at` and `now` the store would have refused it for `wait` seconds."""
        until = asked_at + min(wait, MAX_SECONDS)
        self._denials[bucket.key] = _Denial(until, now + wait, bucket.interval, bucket.burst, bucket.cost)
        self._denials.move_to_end(bucket.key)
        if len(self._denials) > MAX_KEYS:
            self._denials.popitem(last=False)

    def find(self, buckets: list[Bucket], now: float) -> list[tuple[int, float]]:
        """The places of those that would refuse for sure, and for how many seconds more."""
        if not self._denials:
            return []
        found: list[tuple[int, float]] = []
        for i, bucket in enumerate(buckets):
            known = self._denials.get(bucket.key) if bucket.mode == REFUSE else None
            if known is None:
                continue
            if now >= known.believed_until:
                del self._denials[bucket.key]
            elif bucket.cost >= known.cost and (bucket.interval, bucket.burst) == (known.interval, known.burst):
                found.append((i, known.passes_at + (bucket.cost - known.cost) * known.interval - now))
        return found

    def expire(self, now: float) -> None:
        """Forgets those that are believed no more, the oldest first; what is behind a younger one stays for now."""
        while self._denials:
            key, denial = next(iter(self._denials.items()))
            if now < denial.believed_until:
                return
            del self._denials[key]

    def forget(self) -> None:
        self._denials.clear()
