"""Browsers are gone in time, whatever their worker does; here any process stands for one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from sessions.worker.browser.guarded import Guard
from sluice.process.boottime import boottime
from sluice.process.descendants import descendants
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio

WITHIN = 30.0
_STUCK = """
import asyncio, sys, time
from sessions.worker.browser.guarded import Guard
from sluice.process.boottime import boottime

async def main():
    guard, ends = Guard(), boottime() + float(sys.argv[1])
    guard.until = lambda: ends
    async with guard.watching():
        print(ends, flush=True)
        process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 600 & wait")
        guard.opened(process.pid)
        print(process.pid, flush=True)
        time.sleep(600)  # the event loop is stuck at the very next line

asyncio.run(main())
"""


@contextmanager
def stuck_worker(seconds: float) -> Iterator[tuple[subprocess.Popen[str], float, int]]:
    """It has opened a browser, and nothing else happens in it; `seconds`: until when that may run."""
    command = [sys.executable, "-c", _STUCK, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        try:
            yield worker, float(worker.stdout.readline()), int(worker.stdout.readline())
        finally:
            worker.kill()


@asynccontextmanager
async def browser() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False


async def test_a_browser_is_gone_when_the_lease_ends_though_its_worker_is_stuck() -> None:
    with stuck_worker(3.0) as (worker, ends, pid):
        await until(lambda: descendants(pid), timeout=WITHIN)
        (below,) = descendants(pid)
        assert boottime() < ends
        alive = True
        while boottime() < ends:
            assert alive, "it was killed too early"
            await asyncio.sleep(0.01)
            alive = runs(pid) or boottime() >= ends
        await until(lambda: not runs(pid) and not runs(below), timeout=WITHIN)
        assert worker.poll() is None


async def test_browsers_end_with_a_worker_that_is_killed() -> None:
    with stuck_worker(600.0) as (worker, _, pid):
        await until(lambda: descendants(pid), timeout=WITHIN)
        (below,) = descendants(pid)
        worker.kill()
        await until(lambda: not runs(pid) and not runs(below), timeout=WITHIN)


async def test_a_browser_that_was_closed_is_nobodys_business_any_more() -> None:
    """Its number may be another process's by then."""
    guard = Guard()
    ends = boottime() + 600.0

    def moment() -> float:
        return ends

    guard.until = moment
    async with guard.watching(), browser() as one, browser() as other:
        guard.opened(one.pid)
        guard.opened(other.pid)
        guard.closed(one.pid)
        ends = 0.0
        async with asyncio.timeout(WITHIN):
            await other.wait()
        assert one.returncode is None


async def test_a_watchdog_that_is_killed_is_replaced_and_told(heard: Heard) -> None:
    guard, ends = Guard(), boottime() + 600.0
    guard.until = lambda: ends
    async with guard.watching(), browser() as one:
        guard.opened(one.pid)
        await until(lambda: any(_is_watchdog(pid) for pid in descendants(os.getpid())), timeout=WITHIN)
        (watchdog,) = (pid for pid in descendants(os.getpid()) if _is_watchdog(pid))
        os.kill(watchdog, 9)
        await until(lambda: "watchdog.ended" in heard.messages(), timeout=WITHIN)
        await until(lambda: any(_is_watchdog(pid) for pid in descendants(os.getpid())), timeout=WITHIN)
        began = time.monotonic()
        ends = 0.0
        async with asyncio.timeout(WITHIN):
            await one.wait()
        assert time.monotonic() - began < WITHIN


def _is_watchdog(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as words:
            return b"watchdog.py" in words.read()
    except OSError:
        return False
