"""A worker that was given many sessions opens a few at a time, and one at a time on a busy machine."""

from __future__ import annotations

import asyncio

import pytest

from sessions.worker.browser.starts import Starts, at_once, may_start
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("policy", "cores", "expected"), [(None, 1, 2), (None, 6, 6), (None, 64, 16), (1, 6, 1)])
def test_one_for_each_core_where_the_policies_do_not_say(policy: int | None, cores: int, expected: int) -> None:
    assert at_once(policy, cores) == expected


@pytest.mark.parametrize(
    ("starting", "runnable", "expected"),
    [(0, 0, True), (0, 500, True), (1, 3, True), (1, 4, False), (3, 0, True), (4, 0, False)],
)
def test_one_may_always_start_and_more_while_the_cpu_has_room(starting: int, runnable: int, expected: bool) -> None:
    assert may_start(starting, 4, runnable, cores=2) == expected


class Storm:
    """Of fifty sessions on two cores, each of whose starts makes three processes that want to run."""

    def __init__(self, most: int, others: int) -> None:
        self.starting = self.started = self.highest = 0
        self.others = others
        self.order: list[int] = []
        self._starts = Starts(most, 2, lambda: self.others + 3 * self.starting)

    async def start(self, number: int) -> None:
        await self._starts.begin()
        self.order.append(number)
        self.starting += 1
        self.highest = max(self.highest, self.starting)
        await asyncio.sleep(0)
        self.starting -= 1
        self.started += 1
        self._starts.end()


@pytest.mark.parametrize(("most", "others", "highest"), [(2, 0, 2), (16, 0, 2), (16, 1000, 1), (1, 0, 1)])
async def test_a_storm_goes_on_whatever_the_machine_does_and_in_its_order(most: int, others: int, highest: int) -> None:
    storm = Storm(most, others)
    await asyncio.gather(*(storm.start(number) for number in range(50)))
    assert (storm.started, storm.highest) == (50, highest)
    assert storm.order == list(range(50))


async def test_one_that_waits_begins_as_soon_as_the_cpu_has_room() -> None:
    busy = 100
    starts = Starts(4, 2, lambda: busy)
    await starts.begin()
    second = asyncio.create_task(starts.begin())
    await asyncio.sleep(0.3)
    assert not second.done()
    busy = 0
    await until(second.done)


async def test_one_that_is_cancelled_while_it_waits_holds_up_no_other() -> None:
    starts = Starts(1, 2, lambda: 0)
    await starts.begin()
    second, third = (asyncio.create_task(starts.begin()) for _ in range(2))
    await asyncio.sleep(0)
    second.cancel()
    starts.end()
    await until(third.done)
    assert third.exception() is None
