"""Tells the watchdog until when this worker's browsers may run, and which they are.

Of a browser it hears before that one loads a page, and until it is gone: so there is none that it does not know,
whatever this process is doing when it stops to answer.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from sluice.observe.log import Log

LOG = Log("sessions.browser")
_WATCHDOG = Path(__file__).with_name("watchdog.py")
_EVERY = 0.25
_ENDS_WITHIN = 5.0


class Guard:
    """`until`: a moment of `boottime` at which the browsers must be gone. They are, whatever this process does."""

    def __init__(self) -> None:
        self.until: Callable[[], float] = lambda: 0.0
        self._pids: set[int] = set()
        """Of their first processes."""
        self._pipe: asyncio.StreamWriter | None = None

    def opened(self, pid: int) -> None:
        self._pids.add(pid)
        self._tell()

    def closed(self, pid: int) -> None:
        self._pids.discard(pid)
        self._tell()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        process = await _watchdog()
        keeping = asyncio.create_task(self._keep(process))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    def _tell(self) -> None:
        """It is in the pipe when this returns."""
        if self._pipe is not None:
            runs = " ".join(map(str, self._pids))
            self._pipe.write(f"runs {runs}\nuntil {self.until()}\n".encode())

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """There is always one, also where something has killed it."""
        while True:
            try:
                await self._tell_on(process)
            finally:
                await _end(process)
            LOG.error("watchdog.ended", code=process.returncode)
            await asyncio.sleep(_EVERY)
            process = await _watchdog()

    async def _tell_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        self._pipe = process.stdin
        try:
            while process.returncode is None:
                self._tell()
                await self._pipe.drain()
                await asyncio.sleep(_EVERY)
        except ConnectionError:
            return
        finally:
            self._pipe = None


async def _watchdog() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(_WATCHDOG)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """It ends with its input."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(_ENDS_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
