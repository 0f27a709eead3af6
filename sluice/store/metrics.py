"""What is counted of the store."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

_JUMPS = Counter("sluice_store_clock_jumps_total", "Times that the store's clock has jumped.", ["direction"])
_JUMPED = Counter("sluice_store_clock_jumped_seconds_total", "By how much it has jumped.", ["direction"])
_OFFSET = Gauge(
    "sluice_store_clock_offset_seconds",
    "How far the time that scripts go by is ahead of the store's clock.",
    multiprocess_mode="livemax",
)


def clock_jumped(seconds: float) -> None:
    direction = "back" if seconds < 0 else "forward"
    _JUMPS.labels(direction).inc()
    _JUMPED.labels(direction).inc(abs(seconds))


def clock_offset(seconds: float) -> None:
    _OFFSET.set(seconds)
