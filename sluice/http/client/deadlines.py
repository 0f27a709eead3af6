"""Waiting for one thing with an end to it, cheaper than `asyncio.timeout` (no task is cancelled and revived)."""

from __future__ import annotations

import asyncio


async def bounded(future: asyncio.Future[bool], timeout: float | None) -> bool:
    """False if `timeout` seconds went by first; None waits for ever."""
    if timeout is None:
        return await future
    timer = future.get_loop().call_later(timeout, _expire, future)
    try:
        return await future
    finally:
        timer.cancel()


class Deadlines:
    """Many waits of one length, with one timer for all: what waits longest is first, and nearly all waits end early."""

    __slots__ = ("_armed", "_waiting", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waiting: dict[asyncio.Future[bool], float] = {}
        self._armed = False

    async def bounded(self, future: asyncio.Future[bool]) -> bool:
        """False if the time went by first."""
        loop = future.get_loop()
        self._waiting[future] = due = loop.time() + self.seconds
        if not self._armed:
            self._armed = True
            loop.call_at(due, self._look, loop)
        try:
            return await future
        finally:
            del self._waiting[future]

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for future, due in self._waiting.items():
            if due > now:
                loop.call_at(due, self._look, loop)
                return
            _expire(future)
        self._armed = False


def wake(future: asyncio.Future[bool] | None) -> None:
    if future is not None and not future.done():
        future.set_result(True)


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
