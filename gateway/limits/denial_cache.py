"""Used-up buckets, remembered in this process until they may pass: a flood costs no round trips. No I/O."""

from __future__ import annotations

from typing import Final

from gateway.limits.applicable import OBSERVE, REFUSE, Bucket
from gateway.limits.decide import TOLERANCE
from sluice.process.cache import Latest

MAX_SECONDS: Final = 1.0
"""A level is believed for no longer: another gateway may have taken from the bucket, or a person have reset it."""
_MAX_BYTES: Final = 16 * 2**20
_SIZE: Final = 100
"""Bytes of what is known of a bucket, apart from its key."""


class _Known:
    """The level that a bucket had at some moment between `asked_at` and `known_at`."""

    __slots__ = ("asked_at", "burst", "interval", "known_at", "level")

    def __init__(self, level: float, asked_at: float, known_at: float, interval: float, burst: int) -> None:
        self.level = level
        self.asked_at = asked_at
        self.known_at = known_at
        self.interval = interval
        self.burst = burst


class DenialCache:
    """Times are seconds of one monotonic clock. Never refuses longer than the store would; in doubt it is asked.

    It tells how long to wait for all of a request's buckets together, so it refuses nothing while it does not know what
    each of them would say.
    """

    def __init__(self) -> None:
        self._known: Latest[str, _Known] = Latest(_MAX_BYTES)
        self._believed_until = 0.0
        self.pace = 1.0
        """Seconds in which a second of the buckets' time passes."""

    def denies(self, now: float) -> bool:
        """Whether it may know any bucket that refuses; else it need not be asked."""
        return now < self._believed_until

    def saw(self, bucket: Bucket, level: float, asked_at: float, now: float, *, refused: bool) -> None:
        """What the store has answered of a bucket. `refused`: this request was, by whichever of its buckets."""
        if bucket.mode == OBSERVE:
            return
        lacks = level < bucket.cost - TOLERANCE
        if lacks or (refused and not isinstance(bucket.limit.cost, int)):
            known = _Known(level, asked_at, now, bucket.interval, bucket.burst)
            self._known.keep(bucket.key, known, bucket.key.__sizeof__() + _SIZE)
            if bucket.mode == REFUSE:  # what is in debt to a queue refuses those that cannot wait
                self._believed_until = max(self._believed_until, asked_at + MAX_SECONDS)
        elif self._known.used:
            self._known.drop(bucket.key)

    def find(self, buckets: list[Bucket], now: float) -> list[tuple[int, float]]:
        """The places of those that refuse for sure, and for how many seconds more. Empty: the store is to be asked."""
        found: list[tuple[int, float]] = []
        if now >= self._believed_until:
            return found
        for i, bucket in enumerate(buckets):
            if bucket.mode != REFUSE:
                continue
            known = self._known.get(bucket.key)
            if known is None:
                if bucket.cost > 1 and not isinstance(bucket.limit.cost, int):
                    return []  # nobody knows whether it has as many
                continue  # it had the tokens when it was last asked
            if now >= known.asked_at + MAX_SECONDS or (bucket.interval, bucket.burst) != (known.interval, known.burst):
                return []
            if known.level + (now - known.asked_at) / known.interval < bucket.cost - TOLERANCE:
                missing = (bucket.cost - known.level) * known.interval
                found.append((i, known.known_at + missing * self.pace - now))
        return found

    def forget(self) -> None:
        self._known.clear()
        self._believed_until = 0.0
