"""Counting in plain numbers, put into prometheus_client's metrics once a second.

Its own counting costs a microsecond or more each time (a lock, a file that other processes read, the process's id), and
a request is counted up to seven times. One event loop counts here, so there is nothing to lock. What a `kill -9` may
cost is the last second of counting.
"""

from __future__ import annotations

import asyncio
import atexit
import math
from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter, Histogram

EVERY = 1.0
"""Seconds between two flushes, while anything is counted."""

_tallies: list[Counts | Histograms] = []


class _Timer:
    armed = False
    """Somebody will flush what is counted now."""


_timer: Final = _Timer()


class _Tally:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


class Counts:
    """What is counted of one counter, by its labels."""

    __slots__ = ("_counter", "_new", "totals")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._new: dict[tuple[str, ...], _Tally] = {}
        self.totals: dict[tuple[str, ...], int] = {}
        """What this process has counted up to the last flush."""
        _tallies.append(self)

    def add(self, *labels: str) -> None:
        tally = self._new.get(labels)
        if tally is None:
            tally = self._new[labels] = _Tally()
        tally.n += 1
        if not _timer.armed:
            _arm()

    def flush(self) -> None:
        new, self._new = self._new, {}
        for labels, tally in new.items():
            (self._counter.labels(*labels) if labels else self._counter).inc(tally.n)
            self.totals[labels] = self.totals.get(labels, 0) + tally.n


class _Observed:
    __slots__ = ("counts", "total")

    def __init__(self, bounds: int) -> None:
        self.total = 0.0
        self.counts = [0] * (bounds + 1)
        """How many fell under each bound and not under the one before; the last: over all of them."""


class Sum:
    """How many were observed, and what they come to."""

    __slots__ = ("number", "total")

    def __init__(self) -> None:
        self.number = 0
        self.total = 0.0


class Histograms:
    """What is observed for one histogram, by its labels. `bounds` are those the histogram was made with, rising."""

    __slots__ = ("_bounds", "_histogram", "_new", "observed", "totals")

    def __init__(self, histogram: Histogram, bounds: Sequence[float]) -> None:
        self._histogram = histogram
        self._bounds = tuple(bounds)
        self.totals = dict.fromkeys((*bounds, math.inf), 0)
        """What this process has observed up to the last flush, whatever the labels: how much fell under each bound and
        not under the one before."""
        self.observed: dict[tuple[str, ...], Sum] = {}
        """The same, by labels."""
        self._new: dict[tuple[str, ...], _Observed] = {}
        _tallies.append(self)

    def observe(self, value: float, *labels: str) -> None:
        observed = self._new.get(labels)
        if observed is None:
            observed = self._new[labels] = _Observed(len(self._bounds))
        observed.total += value
        at = 0
        for bound in self._bounds:
            if value <= bound:
                break
            at += 1
        observed.counts[at] += 1
        if not _timer.armed:
            _arm()

    def flush(self) -> None:
        new, self._new = self._new, {}
        for labels, observed in new.items():
            child = self._histogram.labels(*labels) if labels else self._histogram
            # It has no public way to observe many at once (see the bound in pyproject.toml).
            child._sum.inc(observed.total)
            known = self.observed.setdefault(labels, Sum())
            known.number += sum(observed.counts)
            known.total += observed.total
            for bucket, n in zip(child._buckets, observed.counts, strict=True):
                if n:
                    bucket.inc(n)
            for bound, n in zip(self.totals, observed.counts, strict=True):
                self.totals[bound] += n


def flush() -> None:
    """Everything that was counted goes into the metrics now."""
    _timer.armed = False
    for tally in _tallies:
        tally.flush()


def _arm() -> None:
    try:
        asyncio.get_running_loop().call_later(EVERY, flush)
        _timer.armed = True
    except RuntimeError:
        flush()  # nobody would come back to it


atexit.register(flush)
