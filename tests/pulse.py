"""How long the event loop was stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Pulse:
    """`longest`: seconds of this thread's CPU between two turns of its loop; what others take of the machine meanwhile
    does not count."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.002)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now


@asynccontextmanager
async def pulse() -> AsyncIterator[Pulse]:
    """Measures while the block runs."""
    made = Pulse()
    beating = asyncio.create_task(made.beat())
    await asyncio.sleep(0)
    try:
        yield made
        await asyncio.sleep(0.01)
    finally:
        beating.cancel()
