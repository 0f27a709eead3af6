"""Waiting for conditions instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable


async def until(
    holds: Callable[[], object] | Callable[[], Awaitable[object]],
    *,
    timeout: float = 60.0,
    what: str | Callable[[], str] = "",
) -> None:
    """Returns the moment `holds()` is true; fails with what was waited for after `timeout` seconds, as many as may be
    needed beside other tests. `what` is called then, where it is a function: so it can tell what a process has said
    meanwhile."""
    deadline = time.monotonic() + timeout
    while True:
        value = holds()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g}s in vain for: {(what() if callable(what) else what) or holds}")
        await asyncio.sleep(0.01)
