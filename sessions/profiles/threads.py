"""Work on files, off the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_THREADS = ThreadPoolExecutor(2, "profiles")
"""Few, as each keeps memory of its own: the C library gives what a chunk took back to the thread, not to the system."""


async def in_thread(act: Callable[..., T], *args: object) -> T:
    """What `act` returns or raises. A thread cannot be stopped, and what it writes to may be removed right after: so
    whoever is cancelled waits until it has ended. `act` does a piece of work at a time, such as one chunk."""
    acting = asyncio.get_running_loop().run_in_executor(_THREADS, act, *args)
    try:
        return await asyncio.shield(acting)
    except asyncio.CancelledError:
        while not acting.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([acting])
        if not acting.cancelled():
            acting.exception()  # it is nobody's any more
        raise
