"""Who remembers owners hears of each change, or that there may have been any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sessions.changes import Change, Changes, Everything
from sessions.registry import Registry
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.sessions.making import beat, keep, listed, owner, register, reserved, run, want, worker
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


@pytest.fixture
async def told(store: Store) -> AsyncIterator[list[Change | Everything]]:
    changes, stop = Changes(store), Stop()
    heard: list[Change | Everything] = []
    changes.subscribe(heard.append)
    reading = asyncio.create_task(changes.run(stop))
    await until(lambda: heard)
    heard.clear()
    yield heard
    stop.request()
    await reading


async def test_each_change_of_owner_is_told_and_nothing_else(
    registry: Registry, told: list[Change | Everything]
) -> None:
    await register(registry, "a")
    held = await reserved(registry, "s")
    await registry.cancel("s", held.fence)
    held = await reserved(registry, "s")
    await registry.confirm("s", held.fence)
    await beat(registry, "a", {"s": held.fence})
    await registry.observe(worker("node", url="http://node:1"), listed(["t"]))
    await registry.deregister("a", "1")
    await registry.forget("t")
    fence = (await registry.page("", 1)).rows[0].fence
    assert fence is None
    await until(lambda: len(told) >= 4)
    one, two, three, four = told
    assert one == Change("s", "a", held.fence, "")
    assert isinstance(two, Change)
    assert (two.session, two.worker, two.before) == ("t", "node", "")
    assert three == Change("s", "", held.fence, "a")
    assert four == Change("t", "", two.fence, "node")


async def test_a_worker_that_is_to_stop_a_session_is_told(registry: Registry, told: list[Change | Everything]) -> None:
    await register(registry, "a")
    held = await run(registry, "a", "s")
    await until(lambda: len(told) == 2)
    await registry.move("s", "a")
    await register(registry, "b")
    await registry.move("s", "b")
    await until(lambda: len(told) == 3)
    assert told[-1] == Change("s", "a", held["s"], "a")


async def test_a_change_is_told_within_a_tenth_of_a_second(registry: Registry, told: list[Change | Everything]) -> None:
    """The best of some: how fast this machine is now, is not what is tested."""
    await register(registry, "a", capacity=100)
    best = 10.0
    for i in range(10):
        seen, began = len(told), asyncio.get_running_loop().time()
        await want(registry, f"s{i}")
        await until(lambda seen=seen: len(told) > seen)
        best = min(best, asyncio.get_running_loop().time() - began)
    assert best < 0.1


async def test_when_changes_were_missed_everything_has_changed(
    registry: Registry, store: Store, told: list[Change | Everything]
) -> None:
    await register(registry, "a")
    await want(registry, "s")
    await until(lambda: len(told) == 1)
    await store.commands(("HINCRBY", "sl:{sessions}:numbers", "changes", 5))
    await want(registry, "t")
    await until(lambda: len(told) == 3)
    assert isinstance(told[1], Everything)
    assert isinstance(told[2], Change)


async def test_after_a_reconnect_everything_has_changed_and_what_follows_is_told(
    registry: Registry, store: Store, told: list[Change | Everything]
) -> None:
    await store.commands(("CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal"))
    await until(lambda: told)
    assert isinstance(told[0], Everything)
    await register(registry, "a")
    await want(registry, "s")
    await keep(registry)
    fence = (await owner(registry, "s")).fence
    await until(lambda: Change("s", "a", fence, "") in told)
