"""How much time has passed, also while the process or the whole machine stood still."""

from __future__ import annotations

import time
from typing import Final

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux alone has the first


def boottime() -> float:
    """Seconds. Unlike `time.monotonic()` it counts what a machine was suspended for, where the system can tell."""
    return time.clock_gettime(_CLOCK)
