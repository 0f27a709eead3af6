"""One bucket, several processes, some of which are paused in the middle of what they do."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

pytestmark = pytest.mark.anyio

RATE, BURST = 200, 20
HAMMER = f"""
import asyncio, sys
from gateway.limits.applicable import REFUSE, Bucket
from gateway.limits.limiter import Limiter
from sluice.store.client import Store
from tests.gateway.making import a_limit
from sluice.config import Rate

async def main(url: str, seconds: float) -> None:
    limit = a_limit("all", rate=Rate({RATE}, 1.0), burst={BURST})
    bucket = Bucket(limit, "sl:{{l}}:all", REFUSE, limit.rate.interval, limit.burst, 1)
    limiter, loop = Limiter(Store(url, timeout=5.0)), asyncio.get_running_loop()
    end, passed = loop.time() + seconds, 0
    print("ready", flush=True)

    async def hammer() -> None:
        nonlocal passed
        while loop.time() < end:
            decision = await limiter.take([bucket])
            passed += decision.verdict == "pass"
            await asyncio.sleep(0)

    await asyncio.gather(*(hammer() for _ in range(8)))
    print(passed)

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


async def test_processes_that_pause_let_no_more_through(store_url: str) -> None:
    begun = time.monotonic()
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", HAMMER, store_url, "2.5", stdout=asyncio.subprocess.PIPE
        )
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            await process.stdout.readline()
        for process in processes[:2]:
            for _ in range(2):
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(0.3)
                process.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.1)
        passed = [int((await process.communicate())[0]) for process in processes]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    took = time.monotonic() - begun
    assert sum(passed) <= BURST + RATE * took + 1
    assert sum(passed) >= RATE * 1.5, "a paused process holds nobody else up"
