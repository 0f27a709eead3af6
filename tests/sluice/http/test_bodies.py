"""Bodies that are read whole, within one budget."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import pytest

from sluice.http.bodies import BodyBudget, HeldBody
from sluice.http.problem import ClientGone, Refusal
from sluice.http.senders import REDUCED_CAPACITY, SENDERS, Sender
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Client:
    """Sends these pieces of a body; then it is silent for ever, or gone."""

    def __init__(self, *pieces: bytes, gone: bool = False) -> None:
        self._left = list(pieces)
        self._gone = gone
        self.asked = 0

    async def receive(self) -> MutableMapping[str, Any]:
        self.asked += 1
        if not self._left:
            assert self._gone, "read on after the end of the body"
            return {"type": "http.disconnect"}
        piece = self._left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self._left) or self._gone}


@pytest.fixture
def budget() -> BodyBudget:
    return BodyBudget(100)


@pytest.mark.parametrize("pieces", [(b"",), (b"abc",), (b"a", b"", b"bc"), (b"ab", b"c", b"")])
async def test_a_body_is_read_whole_and_counts_until_it_is_released(
    budget: BodyBudget, pieces: tuple[bytes, ...]
) -> None:
    held = HeldBody(budget)
    assert await held.read(Client(*pieces).receive, 3) == b"".join(pieces)
    assert budget.used == len(b"".join(pieces))
    held.release()
    held.release()
    assert budget.used == 0


async def test_a_body_that_turns_out_too_large_is_not_read_further(budget: BodyBudget) -> None:
    client = Client(b"x" * 6, b"x" * 5, b"x" * 1000)
    assert await HeldBody(budget).read(client.receive, 10) is None
    assert client.asked == 2


async def test_a_body_over_the_whole_budget_is_too_large(budget: BodyBudget) -> None:
    assert await HeldBody(budget).read(Client(b"x" * 101).receive, 1000) is None


async def test_a_client_that_leaves_within_its_body_is_gone(budget: BodyBudget) -> None:
    held = HeldBody(budget)
    with pytest.raises(ClientGone):
        await held.read(Client(b"abc", gone=True).receive, 10)
    held.release()
    assert budget.used == 0


async def test_above_the_budget_reading_pauses_until_others_are_answered(budget: BodyBudget) -> None:
    first, second = HeldBody(budget), HeldBody(budget)
    await first.read(Client(b"x" * 80).receive, 100)
    client = Client(b"x" * 10, b"x" * 30, b"x")
    reading = asyncio.create_task(second.read(client.receive, 100))
    await until(lambda: client.asked == 2, what="the second piece to wait")
    assert (budget.used, reading.done()) == (90, False)
    first.release()
    assert len(await reading or b"") == 41
    assert budget.used == 41


async def test_who_came_first_is_served_first(budget: BodyBudget) -> None:
    first, order = HeldBody(budget), []
    await first.read(Client(b"x" * 90).receive, 100)

    async def read(name: str, size: int) -> None:
        await HeldBody(budget).read(Client(b"x" * size).receive, 100)
        order.append(name)

    async with asyncio.TaskGroup() as group:
        for name, size in (("large", 60), ("small", 5)):
            group.create_task(read(name, size))
            await asyncio.sleep(0)
        first.release()
    assert order == ["large", "small"]


async def test_what_waits_too_long_is_refused_and_holds_nothing(budget: BodyBudget) -> None:
    first, second = HeldBody(budget), HeldBody(budget)
    await first.read(Client(b"x" * 95).receive, 100)
    with pytest.raises(Refusal) as caught:
        await second.read(Client(b"x" * 4, b"x" * 10).receive, 100, Sender(0.05))
    assert (caught.value.status, caught.value.retry_after) == (503, b"5")
    assert caught.value.detail == "too many request bodies are held right now (bodies in policies.yaml); send it again"
    second.release()
    assert budget.used == 95
    first.release()
    assert budget.take(100)


async def test_a_sender_that_repeats_nothing_but_429_is_held_longer_and_then_answered_429(budget: BodyBudget) -> None:
    first = HeldBody(budget)
    await first.read(Client(b"x" * 95).receive, 100)
    assert SENDERS["blazz"].hold == 12.0
    with pytest.raises(Refusal) as caught:
        await HeldBody(budget).read(Client(b"x" * 10).receive, 100, replace(SENDERS["blazz"], hold=0.05))
    assert (caught.value.status, caught.value.retry_after) == (429, b"5")
    assert caught.value.more["type"] == REDUCED_CAPACITY


async def test_several_that_have_waited_too_long_at_the_same_moment_are_all_refused(
    budget: BodyBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = HeldBody(budget)
    await first.read(Client(b"x" * 94).receive, 100)

    async def read() -> None:
        held = HeldBody(budget)
        try:
            await held.read(Client(b"x" * 3, b"x" * 4).receive, 100, Sender(0.05))
        finally:
            held.release()

    results = await asyncio.gather(*(read() for _ in range(4)), return_exceptions=True)
    assert [type(result) for result in results] == [Refusal] * 4
    assert budget.used == 94


async def test_one_that_is_cancelled_while_it_waits_holds_up_nobody(budget: BodyBudget) -> None:
    first = HeldBody(budget)
    await first.read(Client(b"x" * 95).receive, 100)
    waiting = asyncio.create_task(HeldBody(budget).read(Client(b"x" * 50).receive, 100))
    await asyncio.sleep(0)
    behind = asyncio.create_task(HeldBody(budget).read(Client(b"x" * 5).receive, 100))
    await asyncio.sleep(0)
    waiting.cancel()
    assert await behind == b"x" * 5
    assert budget.used == 100


async def test_one_that_is_served_and_cancelled_at_once_gives_it_back(budget: BodyBudget) -> None:
    first = HeldBody(budget)
    await first.read(Client(b"x" * 95).receive, 100)
    waiting = asyncio.create_task(HeldBody(budget).read(Client(b"x" * 50).receive, 100))
    await asyncio.sleep(0)
    first.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.used == 0
