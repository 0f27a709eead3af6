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


def wake(future: asyncio.Future[bool] | None) -> None:
    if future is not None and not future.done():
        future.set_result(True)


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)
