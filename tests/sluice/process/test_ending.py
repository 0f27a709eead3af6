"""A process is gone once it was killed, whatever its pipes hold."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest

from sluice.process.ending import kill
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def started(code: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe, stderr=pipe)


async def test_a_process_whose_output_nobody_has_read_ends() -> None:
    process = await started("while True: print('x' * 1000)")
    assert process.stdout is not None
    await process.stdout.read(1)
    waits = f"/proc/{process.pid}/wchan"

    def is_blocked() -> bool:
        """Its pipe is full, and asyncio reads no more of it."""
        with open(waits, encoding="ascii") as what:
            return what.read() in ("pipe_write", "anon_pipe_write")

    await until(is_blocked, timeout=30)
    async with asyncio.timeout(30):
        await kill(process)
    assert process.returncode == -signal.SIGKILL


async def test_nobody_waits_for_another_process_that_has_its_pipes() -> None:
    child = "import subprocess, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    process = await started(child)
    assert process.stdout is not None
    orphan = int(await process.stdout.readline())
    try:
        began = time.monotonic()
        await kill(process)
        assert time.monotonic() - began < 30
        assert process.returncode == -signal.SIGKILL
    finally:
        os.kill(orphan, signal.SIGKILL)


async def test_one_that_has_ended_is_no_mistake() -> None:
    process = await started("print('done')")
    assert await process.wait() == 0
    await kill(process)
    assert process.returncode == 0
