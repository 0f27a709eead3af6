from __future__ import annotations

import asyncio

import pytest

from sluice.process.shared import Shared

pytestmark = pytest.mark.anyio


class Maker:
    def __init__(self) -> None:
        self.made = 0
        self.go_on = asyncio.Event()

    async def make(self) -> int:
        self.made += 1
        await self.go_on.wait()
        return self.made


async def test_all_who_ask_at_once_get_the_same_and_later_ones_a_new_one() -> None:
    maker, shared = Maker(), Shared[int](0.05)
    waiting = [asyncio.create_task(shared.get(maker.make)) for _ in range(3)]
    await asyncio.sleep(0)
    maker.go_on.set()
    assert await asyncio.gather(*waiting) == [1, 1, 1]
    assert await shared.get(maker.make) == 1
    await asyncio.sleep(0.06)
    assert await shared.get(maker.make) == 2


async def test_one_who_leaves_takes_it_from_nobody_else() -> None:
    maker, shared = Maker(), Shared[int](1.0)
    first, second = (asyncio.create_task(shared.get(maker.make)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    maker.go_on.set()
    assert await second == 1


async def test_a_failure_is_raised_to_all_and_kept_for_nobody() -> None:
    shared = Shared[int](1.0)

    async def fail() -> int:
        await asyncio.sleep(0)
        raise ValueError("not now")

    async def succeed() -> int:
        return 7

    outcomes = await asyncio.gather(shared.get(fail), shared.get(fail), return_exceptions=True)
    assert [str(one) for one in outcomes] == ["not now", "not now"]
    assert await shared.get(succeed) == 7
