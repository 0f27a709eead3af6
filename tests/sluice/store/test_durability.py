from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sluice.config import Promise
from sluice.store.client import Store
from sluice.store.durability import broken

pytestmark = pytest.mark.anyio


@pytest.fixture
async def adjustable(store: Store) -> AsyncIterator[Store]:
    before = {
        name: (await store.redis.config_get(name))[name] for name in ("appendonly", "appendfsync", "maxmemory-policy")
    }
    yield store
    for name, value in before.items():
        await store.redis.config_set(name, value)


@pytest.mark.parametrize("promise", ["memory", "second", "replica"])
async def test_the_store_of_the_tests_keeps_these(store: Store, promise: Promise) -> None:
    assert await broken(store, promise) == []


async def test_a_promise_that_the_store_does_not_keep_is_told_with_the_setting(store: Store) -> None:
    assert await broken(store, "always") == ["appendfsync is everysec, it must be always"]


async def test_a_store_that_throws_events_away_when_it_is_full_is_told(adjustable: Store) -> None:
    await adjustable.redis.config_set("maxmemory-policy", "allkeys-lru")
    assert await broken(adjustable, "memory") == ["maxmemory-policy is allkeys-lru, it must be noeviction"]


async def test_a_store_without_an_append_only_file_is_told(adjustable: Store) -> None:
    await adjustable.redis.config_set("appendonly", "no")
    assert await broken(adjustable, "second") == ["appendonly is no, it must be yes"]
