"""When a browser may start: a worker that was given many sessions opens a few at a time, and fewer on a busy machine.

One may always start while no other does. Each further one waits until the CPU has room for it: opening a page takes a
core for seconds, and a machine that has too many of them to open renews its leases too late.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

_PER_CORE = 2.0
"""Processes that run or want to, from which on a core has no room."""
_LOOK_AGAIN = 0.1
_FEWEST, _MOST = 2, 16


def at_once(policy: int | None, cores: int) -> int:
    """How many start at a time at most; `policy` None: one for each core."""
    return policy if policy is not None else max(_FEWEST, min(_MOST, cores))


def may_start(starting: int, most: int, runnable: int, cores: int) -> bool:
    """`runnable`: processes that run or want to at this moment."""
    return starting == 0 or (starting < most and runnable < _PER_CORE * cores)


class Starts:
    """Of one worker. They are let in as they come."""

    def __init__(self, policy: int | None, cores: int | None = None, runnable: Callable[[], int] | None = None) -> None:
        self._cores = cores or len(os.sched_getaffinity(0))
        self._most = at_once(policy, self._cores)
        self._runnable = runnable or _runnable
        self._starting = 0
        self._deciding, self._ended = asyncio.Lock(), asyncio.Event()

    async def begin(self) -> None:
        """Waits until one more may start; `end` is to follow."""
        async with self._deciding:
            while not may_start(self._starting, self._most, self._runnable(), self._cores):
                self._ended.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN):
                        await self._ended.wait()
            self._starting += 1

    def end(self) -> None:
        """One has opened, or failed to."""
        self._starting -= 1
        self._ended.set()


def _runnable() -> int:
    """Without this one, which asks. Costs microseconds; 0: the system does not tell."""
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            return int(file.read().split()[3].partition("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return 0
