"""How much one side of a WebSocket may send."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.config.fields import setting
from sluice.config.model import Rate
from sluice.config.parsers import rate, size


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    message: int = setting(size, 16 * 2**20)
    """Bytes of one message, after it was decompressed; a longer one is closed with 1009."""
    control: Rate = setting(rate, Rate(100, 1.0))
    """Pings, pongs and empty fragments; who sends more is closed with 1008."""


class Allowance:
    """What a rate lets through: a token bucket that is full at first. Times in seconds, by a clock that never goes
    back."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._most = self._tokens = float(rate.amount)
        self._interval = rate.interval
        self._at = now

    def take(self, now: float) -> bool:
        """One of them. False: there is none left."""
        self._tokens = min(self._most, self._tokens + (now - self._at) / self._interval)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
