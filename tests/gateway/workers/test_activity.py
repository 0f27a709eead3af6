"""Which sessions are busy, as a gateway tells it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.workers.activity import MAX_BYTES, Activity
from sessions.registry import Registry
from sluice.store.client import Store
from tests.sessions.making import register, run
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


async def busy(activity: Activity, registry: Registry, quiet: float = 0.3) -> Sequence[str]:
    await activity.report(registry)
    return sorted(one.session for one in await registry.held_by("a") if one.idle < quiet)


async def test_what_was_asked_or_came_is_busy_for_a_while(registry: Registry) -> None:
    activity = Activity()
    await register(registry, "a")
    await run(registry, "a", "asked", "heard", "quiet")

    async def none_is() -> bool:
        return await busy(activity, registry) == []

    await until(none_is)
    activity.begin("asked")
    activity.end("asked")
    activity.note("heard")
    assert await busy(activity, registry) == ["asked", "heard"]
    await until(none_is)


async def test_what_is_being_asked_is_busy_until_it_is_answered(registry: Registry) -> None:
    activity = Activity()
    await register(registry, "a")
    await run(registry, "a", "asked", "quiet")
    activity.begin("asked")
    activity.begin("asked")
    activity.end("asked")

    async def only_that_one() -> bool:
        return await busy(activity, registry) == ["asked"]

    await until(only_that_one)
    activity.end("asked")

    async def none_is() -> bool:
        return await busy(activity, registry) == []

    await until(none_is)


async def test_where_there_are_more_than_can_be_told_all_are_busy(registry: Registry) -> None:
    activity = Activity()
    await register(registry, "a")
    await run(registry, "a", "quiet")

    async def none_is() -> bool:
        return await busy(activity, registry) == []

    await until(none_is)
    for number in range(MAX_BYTES // 1000 + 1):
        activity.note(f"{number:0900}")
    assert await busy(activity, registry) == ["quiet"]


async def test_while_the_store_is_away_nothing_is_told_and_afterwards_all_are_busy(registry: Registry) -> None:
    activity = Activity()
    await register(registry, "a")
    await run(registry, "a", "quiet")

    async def none_is() -> bool:
        return await busy(activity, registry) == []

    await until(none_is)
    away = Store("unix:///nowhere.sock", timeout=0.2)
    await activity.report(Registry(away, 60.0))
    await away.close()
    assert await busy(activity, registry) == ["quiet"]


async def test_a_create_without_room_is_told_once(registry: Registry) -> None:
    activity = Activity()
    activity.found_no_room("s")
    activity.found_no_room("s")
    await activity.report(registry)
    assert (await registry.scaling()).unplaced == 1
