"""Refused keys, remembered in this process until they may pass: a flood costs no round trips. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gateway.limits.applicable import Bucket

LONGEST = 10.0
"""Seconds a refusal is believed: the store may have been emptied since."""
MOST = 50_000


@dataclass(slots=True)
class _Refused:
    until: float
    interval: float
    burst: int
    cost: int


class DenialCache:
    """Times are seconds of one monotonic clock. Never refuses longer than the store would; in doubt it is asked."""

    def __init__(self) -> None:
        self._refused: OrderedDict[str, _Refused] = OrderedDict()

    def __len__(self) -> int:
        return len(self._refused)

    def remember(self, bucket: Bucket, asked_at: float, wait: float) -> None:
        """The store, asked no earlier than `asked_at`, has refused it for `wait` seconds."""
        until = asked_at + min(wait, LONGEST)
        self._refused[bucket.key] = _Refused(until, bucket.interval, bucket.burst, bucket.cost)
        self._refused.move_to_end(bucket.key)
        if len(self._refused) > MOST:
            self._refused.popitem(last=False)

    def find(self, buckets: list[Bucket], now: float) -> tuple[Bucket, float] | None:
        """One that would be refused for sure, and for how many seconds more.

        None as well where a bucket only observes: it is counted by the store.
        """
        if not self._refused:
            return None
        found: tuple[Bucket, float] | None = None
        for bucket in buckets:
            if bucket.how == "o":
                return None
            known = self._refused.get(bucket.key) if bucket.how == "e" else None
            if known is None:
                continue
            if now >= known.until:
                del self._refused[bucket.key]
            elif bucket.cost >= known.cost and (bucket.interval, bucket.burst) == (known.interval, known.burst):
                left = known.until - now
                if found is None or left > found[1]:
                    found = bucket, left
        return found

    def forget(self) -> None:
        self._refused.clear()
