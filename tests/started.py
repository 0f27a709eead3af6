"""When processes were started."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def started(pid: int) -> float:
    """By `boottime`, to a hundredth of a second. Raises OSError: it is not there."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[19]) / _TICKS
