"""Latencies in a few hundred numbers, however many there were, each within two percent."""

from __future__ import annotations

import math
from collections import Counter

_STEP = math.log(1.02)
_SHORTEST = 1e-5  # seconds


class Histogram:
    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        self._counts[round(math.log(max(seconds, _SHORTEST)) / _STEP)] += 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def at(self, share: float) -> float:
        """The time in seconds within which this share of all was answered; 0 when there were none."""
        left = share * self.count
        for step, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return min(self.longest, math.exp((step + 0.5) * _STEP))
        return self.longest
