from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from sluice.process.loops import Stop, every

pytestmark = pytest.mark.anyio


async def test_a_sleep_ends_early_when_stopped() -> None:
    stop = Stop()
    sleeping = asyncio.create_task(stop.sleep(60))
    await asyncio.sleep(0)
    stop.request()
    assert await sleeping is False


async def test_a_loop_takes_turns_until_it_is_stopped() -> None:
    stop, turns = Stop(), 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            stop.request()

    await every(0.001, stop, turn)
    assert turns == 3


async def test_a_turn_that_raises_ends_the_loop() -> None:
    async def turn() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await every(0.001, Stop(), turn)


def test_a_supervised_process_stops_when_its_supervisor_is_gone() -> None:
    program = (
        "import asyncio\nfrom sluice.process.loops import Stop\n"
        "async def main():\n"
        "    stop = Stop()\n    stop.on_parent_gone()\n    print('up', flush=True)\n    await stop.wait()\n"
        "asyncio.run(main())\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"SLUICE_SUPERVISED": "1", "PYTHONPATH": "."},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    child.stdin.close()
    assert child.wait(timeout=10) == 0
    child.stdout.close()
