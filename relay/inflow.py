"""How much comes in for an endpoint that has to be sent: is it more than its pace can ever deliver?"""

from __future__ import annotations

from collections import deque

EVERY = 10.0
_WINDOW = 300.0
_LEAST = 60.0  # seconds; less is a burst, which a queue is there for


class Inflow:
    """Of one endpoint, over the last minutes. Times in seconds, by one clock that only goes forward."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, now: float, events: int) -> None:
        """`events`: all that was ever accepted, less what went stale and was never sent."""
        if self._samples and events < self._samples[-1][1]:
            self._samples.clear()  # another store, or an empty one
        self._samples.append((now, events))
        while now - self._samples[0][0] > _WINDOW:
            self._samples.popleft()

    @property
    def per_second(self) -> float | None:
        """None until it was watched for a minute."""
        if not self._samples:
            return None
        (began, before), (ended, after) = self._samples[0], self._samples[-1]
        return (after - before) / (ended - began) if ended - began >= _LEAST else None
