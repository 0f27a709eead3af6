"""What was counted in the last minute: by it `status` says what goes wrong now, whichever process it goes wrong in.

Every process shows its own as gauges, beside the counters: the page of metrics adds those of the live processes up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from prometheus_client import Gauge

from sluice.observe import tallies

EVERY = 2.0
"""Seconds between two looks."""
WINDOW = 60.0
SUFFIX = "_last_minute"

Labels = tuple[str, ...]
Totals = Mapping[Labels, float]


def _as_counted(labels: Labels) -> Labels:
    return labels


class Recent:
    """`totals`: what was counted up to now. `fold`: the labels under which those are shown, where fewer are enough."""

    def __init__(
        self, totals: Callable[[], Totals], gauge: Gauge, fold: Callable[[Labels], Labels] = _as_counted
    ) -> None:
        self._totals = totals
        self._gauge = gauge
        self._fold = fold
        self.started = time.monotonic()
        self._past: deque[tuple[float, Totals]] = deque([(self.started, {})])
        _all.append(self)

    def __len__(self) -> int:
        """How many looks are remembered."""
        return len(self._past)

    def note(self, now: float) -> None:
        """`now`: monotonic seconds."""
        totals = self._totals()
        if not totals:
            return
        self._past.append((now, dict(totals)))
        while len(self._past) > 1 and self._past[1][0] <= now - WINDOW:
            self._past.popleft()
        for labels, n in self.sums().items():
            (self._gauge.labels(*labels) if labels else self._gauge).set(n)

    def sums(self) -> dict[Labels, float]:
        """What this process has counted in the last minute, as of the last look."""
        before, after = self._past[0][1], self._past[-1][1]
        sums: dict[Labels, float] = {}
        for labels, n in after.items():
            shown = self._fold(labels)
            sums[shown] = sums.get(shown, 0) + n - before.get(labels, 0)
        return sums


_all: list[Recent] = []


async def run_once() -> None:
    """To be called every `EVERY` seconds."""
    tallies.flush()
    now = time.monotonic()
    for one in _all:
        one.note(now)
