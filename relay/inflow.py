"""How many events per second come in for an endpoint: are they more than its pace can ever deliver?"""

from __future__ import annotations

from collections import deque

EVERY = 10.0
_WINDOW = 300.0
_MIN_OBSERVED = 60.0  # seconds; what is shorter is a burst, and a queue absorbs it


class Inflow:
    """Of one endpoint, over the last five minutes. Times in seconds, monotonic."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, now: float, events: int) -> None:
        """`events`: how many were ever accepted, less those that went stale and were never sent."""
        if self._samples and events < self._samples[-1][1]:
            self._samples.clear()  # another store, or an empty one
        self._samples.append((now, events))
        while now - self._samples[0][0] > _WINDOW:
            self._samples.popleft()

    @property
    def per_second(self) -> float | None:
        """None until it has been observed for a minute."""
        if not self._samples:
            return None
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return (after - before) / (ended - began) if ended - began >= _MIN_OBSERVED else None
