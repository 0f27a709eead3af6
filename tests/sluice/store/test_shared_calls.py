from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sluice.store.protocol.errors import Full
from sluice.store.shared_calls import SharedCalls

pytestmark = pytest.mark.anyio


class Recorded:
    """A slow call that answers each item with its double and remembers what went together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go_on = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.go_on.wait()
        if -1 in items:
            raise ValueError("no such item")
        return [item * 2 for item in items]


async def test_a_lone_caller_goes_at_once_and_the_rest_share_the_next_call() -> None:
    call = Recorded()
    shared = SharedCalls(call, size=64, waiting=100)
    asked = [asyncio.create_task(shared.ask(i)) for i in range(1, 6)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.go_on.set()
    assert await asyncio.gather(*asked) == [2, 4, 6, 8, 10]
    assert [item for batch in call.batches for item in batch] == [1, 2, 3, 4, 5]
    assert len(call.batches) <= 2


async def test_no_call_is_larger_than_its_size() -> None:
    call = Recorded()
    call.go_on.set()
    shared = SharedCalls(call, size=3, waiting=100)
    await asyncio.gather(*(shared.ask(i) for i in range(10)))
    assert max(map(len, call.batches)) == 3


async def test_an_error_reaches_everybody_of_its_call_and_nobody_else() -> None:
    call = Recorded()
    call.go_on.set()
    shared = SharedCalls(call, size=64, waiting=100)
    with pytest.raises(ValueError, match="no such item"):
        await shared.ask(-1)
    assert await shared.ask(4) == 8


async def test_a_caller_that_gave_up_is_left_out() -> None:
    call = Recorded()
    shared = SharedCalls(call, size=1, waiting=100)
    first = asyncio.create_task(shared.ask(1))
    second = asyncio.create_task(shared.ask(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second.cancel()
    call.go_on.set()
    assert await first == 2
    assert await shared.ask(3) == 6
    assert [2] not in call.batches


async def test_too_many_callers_are_turned_away() -> None:
    call = Recorded()
    shared = SharedCalls(call, size=1, waiting=1)
    first = asyncio.create_task(shared.ask(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = asyncio.create_task(shared.ask(2))
    await asyncio.sleep(0)
    with pytest.raises(Full):
        await shared.ask(3)
    call.go_on.set()
    assert await asyncio.gather(first, waiting) == [2, 4]
