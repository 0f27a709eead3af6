"""Waiting for conditions instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def until(
    holds: Callable[[], object] | Callable[[], Awaitable[object]], *, timeout: float = 10.0, what: str = ""
) -> None:
    """Returns the moment `holds()` is true; fails with what was waited for after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = holds()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g}s in vain for: {what or holds}")
        await asyncio.sleep(0.01)
