"""Buckets as this process knows them, for limits with `when_store_away: local`. No I/O, no clock.

While the store answers, its levels are noted here. While it is away this process goes on from them with its part of
each bucket. What it lets through meanwhile it owes the store: by so much a bucket is lower than if nothing had passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.limits.applicable import Bucket
from gateway.limits.decide import Decision, decide
from sluice.process.cache import Latest

_NOTHING: Final = 1e-6
"""Tokens that are none."""
_SIZE: Final = 300
"""Bytes of what is known of a bucket, apart from its key."""


class _Level:
    """Of a bucket at a moment. `parts` 0: of all of it, as the store said; else of one of so many equal parts."""

    __slots__ = ("at", "level", "owed", "parts")

    def __init__(self, level: float, at: float, parts: int) -> None:
        self.level = level
        self.owed = 0.0
        """Tokens that the store does not know to be gone; only of a part the level is without them."""
        self.at = at
        self.parts = parts


@dataclass(frozen=True, slots=True)
class Charge:
    """Tokens that a bucket in the store has to give for what passed without it."""

    bucket: Bucket
    tokens: float


class LocalBuckets:
    """Beyond `limit` bytes the least recently used buckets are forgotten, and are full then."""

    def __init__(self, limit: int = 24 * 2**20) -> None:
        self.forgotten = 0
        self._levels: Latest[str, _Level] = Latest(limit)
        self._owing: dict[str, Bucket] = {}

    @property
    def owing(self) -> int:
        """Of how many buckets the store may have to be told."""
        return len(self._owing)

    def saw(self, bucket: Bucket, level: float, now: float) -> None:
        """The level in the store, at a moment before `now`."""
        known = self._levels.get(bucket.key)
        if known is None:
            self._keep(bucket.key, _Level(level, now, 0))
        else:
            known.level, known.at, known.parts = level, now, 0
            self._levels.renew(bucket.key)

    def take(self, buckets: Sequence[Bucket], now: float, parts: int = 1) -> Decision:
        """`now`: seconds of any clock; one that goes back adds nothing. `parts`: of that many equal ones, this
        process has one; a single request can always pass in a full one."""
        shares = [_part_of(bucket, parts) for bucket in buckets] if parts > 1 else buckets
        known = [self._at(bucket, now, parts) for bucket in buckets]
        decision = decide(shares, [one.level for one in known])
        for bucket, one, level in zip(buckets, known, decision.levels, strict=True):
            if level != one.level:
                one.owed += one.level - level
                one.level = level
                self._owing[bucket.key] = bucket
        return decision

    def owed(self, now: float, most: int) -> list[Charge]:
        """Of up to `most` buckets what the store has to be charged. It counts as charged from now on: never twice."""
        charges = []
        for key in list(self._owing)[:most]:
            bucket = self._owing.pop(key)
            known = self._levels.get(key)
            if known is None:
                continue
            if known.parts:
                known = self._at(bucket, now, known.parts)
            else:
                known.level -= known.owed
            if known.owed > _NOTHING:
                charges.append(Charge(bucket, known.owed))
            known.owed = 0.0
        return charges

    def _at(self, bucket: Bucket, now: float, parts: int) -> _Level:
        """This process's part of the bucket, as it is now."""
        most = max(bucket.burst / parts, min(bucket.cost, bucket.burst))
        known = self._levels.get(bucket.key)
        if known is None:
            known = _Level(most, now, parts)
            self._keep(bucket.key, known)
            return known
        gained = max(0.0, now - known.at) / bucket.interval
        if known.parts:
            # A cheap request has a smaller part than a dear one: the level shrinks to it, what is owed does not.
            untouched = known.level + known.owed
            level = min(max(most, known.level), known.level + gained / parts)
            known.owed = min(max(most, untouched), untouched + gained / parts) - level
            known.level = min(most, level)
        else:
            whole = min(bucket.burst, known.level + gained)
            known.level = (whole * most / bucket.burst if whole > 0 else whole / parts) - known.owed
        known.at, known.parts = now, parts
        self._levels.renew(bucket.key)
        return known

    def _keep(self, key: str, level: _Level) -> None:
        for forgotten in self._levels.keep(key, level, key.__sizeof__() + _SIZE):
            self._owing.pop(forgotten, None)
            self.forgotten += 1


def _part_of(bucket: Bucket, parts: int) -> Bucket:
    return Bucket(bucket.limit, bucket.key, bucket.mode, bucket.interval * parts, bucket.burst, bucket.cost)
