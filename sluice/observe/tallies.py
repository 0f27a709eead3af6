"""Counting in plain numbers, put into prometheus_client's metrics once a second.

Its own counting costs a microsecond or more each time (a lock, a file that other processes read, the process's id), and
a request is counted up to seven times. One event loop counts here, so there is nothing to lock. What a `kill -9` may
cost is the last second of counting.
"""

from __future__ import annotations

import asyncio
import atexit
from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import Counter, Histogram

EVERY = 1.0
"""Seconds between two flushes, while anything is counted."""

_tallies: list[Counts | Histograms] = []
_armed = False


class Counts:
    """What is counted of one counter, by its labels."""

    __slots__ = ("_counter", "_new", "totals")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._new: dict[tuple[str, ...], int] = {}
        self.totals: dict[tuple[str, ...], int] = {}
        """What this process has counted up to the last flush."""
        _tallies.append(self)

    def add(self, *labels: str) -> None:
        new = self._new
        new[labels] = new.get(labels, 0) + 1
        if not _armed:
            _arm()

    def flush(self) -> None:
        new, self._new = self._new, {}
        for labels, n in new.items():
            (self._counter.labels(*labels) if labels else self._counter).inc(n)
            self.totals[labels] = self.totals.get(labels, 0) + n


class Histograms:
    """What is observed for one histogram, by its labels. `bounds` are those the histogram was made with, rising."""

    __slots__ = ("_bounds", "_histogram", "_new")

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram = histogram
        self._bounds = tuple(bounds)
        self._new: dict[tuple[str, ...], list[float]] = {}
        """The sum, then how many fell under each bound and not under the one before; the last: over all of them."""
        _tallies.append(self)

    def observe(self, value: float, *labels: str) -> None:
        new = self._new.get(labels)
        if new is None:
            new = self._new[labels] = [0.0] * (len(self._bounds) + 2)
        new[0] += value
        new[bisect_left(self._bounds, value) + 1] += 1
        if not _armed:
            _arm()

    def flush(self) -> None:
        new, self._new = self._new, {}
        for labels, (total, *counts) in new.items():
            child = self._histogram.labels(*labels)
            # It has no public way to observe many at once (see the bound in pyproject.toml).
            child._sum.inc(total)
            for bucket, n in zip(child._buckets, counts, strict=True):
                if n:
                    bucket.inc(n)


def flush() -> None:
    """Everything that was counted goes into the metrics now."""
    global _armed
    _armed = False
    for tally in _tallies:
        tally.flush()


def _arm() -> None:
    global _armed
    try:
        asyncio.get_running_loop().call_later(EVERY, flush)
        _armed = True
    except RuntimeError:
        flush()  # nobody would come back to it


atexit.register(flush)
