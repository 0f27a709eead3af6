"""How much one side of a WebSocket may send."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.config import parsers
from sluice.config.fields import Value, setting
from sluice.config.model import Rate
from sluice.config.problems import Malformed, quoted

_MAX_MESSAGE = 256 * 2**20


def _message(value: Value) -> int:
    size = parsers.size(value)
    if size > _MAX_MESSAGE:
        raise Malformed(f"{quoted(value.text())} is too much for one message", "write 256MiB or less")
    return size


def _control(value: Value) -> Rate:
    """Both sides answer our own pings, too."""
    rate = parsers.rate(value)
    if rate.interval > 1.0:
        raise Malformed(f"{quoted(value.text())} cuts off who answers pings", "write 1/second or more")
    return rate


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    message: int = setting(_message, 16 * 2**20)
    """Bytes of one message, decompressed; who sends a longer one is closed with 1009."""
    control: Rate = setting(_control, Rate(100, 1.0))
    """Pings, pongs and empty fragments; who sends more is closed with 1008."""
    memory: int = setting(parsers.size, 64 * 2**20)
    """Bytes of the messages that all WebSockets of a process hold; above it large ones wait, then 1013."""


UNLESS_WRITTEN = WebSocketLimits()
"""What counts where the policies say nothing."""


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
