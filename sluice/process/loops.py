"""Running side by side and stopping in order.

A process is a few loops and perhaps a server in one `TaskGroup`. They share one `Stop`; a loop that crashes ends the
process with a non-zero exit, and whoever supervises it starts it again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable

_SAME = 1.0
"""Seconds in which a second signal says the same as the first: Ctrl-C reaches a whole group, and is pressed twice."""


class Stop:
    """The one switch that ends a process: every wait in a loop is a wait for this, too."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._signalled_at: float | None = None

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def request(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()

    async def sleep(self, seconds: float) -> bool:
        """Sleeps, or returns early when stopped. True while the loop should go on."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return True
        return False

    def on_signals(self, hurry: Callable[[int], None] = lambda number: os._exit(128 + number)) -> None:
        """SIGTERM, SIGINT and a closed terminal request the stop; another one more than a second later is `hurry`.

        Usually that ends the process at once. Whoever has children must end them first.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled, number, hurry)

    def _signalled(self, number: int, hurry: Callable[[int], None]) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
            self.request()
        elif now - self._signalled_at > _SAME:
            hurry(number)

    def on_parent_gone(self) -> None:
        """Stop when the supervisor is gone, however it went.

        The supervisor holds the other end of our standard input, so a `kill -9` of it reads here as end of file: no
        orphan is left behind. Only used when `SLUICE_SUPERVISED` is set.
        """
        if not os.environ.get("SLUICE_SUPERVISED"):
            return
        loop = asyncio.get_running_loop()

        def readable() -> None:
            if not os.read(0, 4096):
                loop.remove_reader(0)
                self.request()

        loop.add_reader(0, readable)


async def every(seconds: float, stop: Stop, run_once: Callable[[], Awaitable[object]]) -> None:
    """One `run_once` after the other, `seconds` apart, until stopped. A turn that raises ends the process."""
    while not stop.requested:
        await run_once()
        await stop.sleep(seconds)


def tune_gc() -> None:
    """What is loaded by now stays: collections need not look at it, and need not come every few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
