"""Tests run in one process: what others have counted in the last minute is not what these look at."""

from __future__ import annotations

import time
from collections import deque

import pytest

from sluice.observe import processes, recent, tallies


@pytest.fixture(autouse=True)
def nothing_recent() -> None:
    """As if this process had just begun to count, and were called nothing."""
    tallies.flush()
    for one in recent._all:
        one._past = deque([(time.monotonic(), dict(one._totals()))])
        one._gauge.clear()
        if not one._gauge._labelnames:
            one._gauge.set(0)
    processes._PID.clear()
    processes._RESTARTS.clear()
