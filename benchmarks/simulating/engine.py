"""A discrete-event simulation: what is to happen lies in a heap by its moment; a station serves one after the other.

Nothing here knows of Sluice. Times are seconds; equal moments happen in the order in which they were planned, so a run
with one seed is always the same.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable

Act = Callable[[], None]


class Simulation:
    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Act]] = []
        self._count = 0

    def after(self, seconds: float, act: Act) -> None:
        self._count += 1
        heapq.heappush(self._planned, (self.now + seconds, self._count, act))

    def run(self, until: float = float("inf")) -> None:
        """What is planned up to that moment, and what comes of it; without one, everything."""
        planned = self._planned
        while planned and planned[0][0] <= until:
            self.now, _, act = heapq.heappop(planned)
            act()
        if until != float("inf"):
            self.now = until


class Station:
    """Some servers before one queue: the cores of gateways, the one core of a slot, the places of an endpoint."""

    def __init__(self, simulation: Simulation, servers: int) -> None:
        self._simulation = simulation
        self._free = servers
        self._servers = servers
        self._waiting: deque[tuple[float, Act]] = deque()
        self.arrived = self.served = 0
        self._busy = 0.0
        """Seconds of all servers together."""

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def inside(self) -> int:
        return self._servers - self._free + len(self._waiting)

    def serve(self, seconds: float, then: Act) -> None:
        """`then` happens when it has been served for so long."""
        self.arrived += 1
        if self._free:
            self._begin(seconds, then)
        else:
            self._waiting.append((seconds, then))

    def utilization(self, seconds: float) -> float:
        """Of all servers, in that time; with what has begun counted whole."""
        return self._busy / (seconds * self._servers)

    def _begin(self, seconds: float, then: Act) -> None:
        self._free -= 1
        self._busy += seconds
        self._simulation.after(seconds, lambda: self._end(then))

    def _end(self, then: Act) -> None:
        self._free += 1
        self.served += 1
        if self._waiting:
            self._begin(*self._waiting.popleft())
        then()


def share(ordered: list[float], part: float) -> float:
    """The value that this part of them does not exceed; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0
