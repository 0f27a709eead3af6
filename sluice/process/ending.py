"""The end of a process of asyncio's that has pipes."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import Process

_WITHIN = 5.0
"""Seconds; one that waits for a disk cannot be killed."""


async def kill(process: Process) -> None:
    """Returns when it is gone; it may be already.

    `Process.wait` alone also waits until its pipes are closed, and one that is full and that nobody reads, or that
    another process has as well, never is. So they are closed here, which only the transport can do.
    """
    transport: asyncio.SubprocessTransport = process._transport  # type: ignore[attr-defined]
    transport.close()  # kills it, too
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_WITHIN):
            await process.wait()
