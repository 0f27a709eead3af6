"""What is counted of the policies file."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

_LOADED = Gauge(
    "sluice_policies_loaded_timestamp_seconds",
    "When the policies in force were loaded; the oldest of all processes.",
    multiprocess_mode="livemin",
)
_WRONG = Gauge(
    "sluice_policies_wrong",
    "1 while the policies file is wrong and older policies stay in force; in any process.",
    multiprocess_mode="livemax",
)
_REFUSED = Counter("sluice_policies_refused_total", "Wrong edits of the policies file; every process counts.")


def policies_loaded(at: float) -> None:
    """`at`: seconds since the epoch."""
    _LOADED.set(at)
    _WRONG.set(0)


def policies_refused() -> None:
    _REFUSED.inc()
    _WRONG.set(1)
