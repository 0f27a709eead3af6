"""When a client has to have done what is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

_EARLY: Final = 0.005  # seconds that a timer may fire too early


class Deadline:
    """One moment, and a timer. Moved to later, or cleared, it costs no timer: one that fires too early looks again."""

    def __init__(self, loop: asyncio.AbstractEventLoop, passed: Callable[[], object]) -> None:
        self._loop = loop
        self._passed = passed
        self._at: float = inf
        self._fires: float = inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """From now on; in place of what was set before."""
        self._at = self._loop.time() + seconds
        if self._at < self._fires:
            self._arm()

    def clear(self) -> None:
        """Nothing is waited for."""
        self._at = inf

    def close(self) -> None:
        """It is needed no more, and lets go of whom it would call."""
        self._at = self._fires = inf
        self._passed = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires = self._at
        self._timer = self._loop.call_at(self._at, self._look)

    def _look(self) -> None:
        self._timer, self._fires = None, inf
        if self._at == inf:
            return
        if self._loop.time() + _EARLY < self._at:
            self._arm()
            return
        self._at = inf
        self._passed()


def _nothing() -> None:
    """Is called in place of who is gone."""
