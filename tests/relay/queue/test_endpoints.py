"""Whatever lies in the store is found by its endpoint, and is too old one day, whether the policies name it or not."""

from __future__ import annotations

import asyncio

import pytest

from relay.policies import Retention
from relay.queue import endpoints, janitor
from relay.queue.dead_letters import DeadLetters
from relay.queue.history import history_of
from relay.queue.layout import PARTITIONS, endpoints_key
from relay.queue.queue import Queue, Settlement
from relay.queue.stranded import stranded
from relay.queue.waiting import Waiting
from sluice.store.client import Store
from tests.relay.making import accept, event

pytestmark = pytest.mark.anyio


def a_queue(store: Store, name: str = "gone") -> Queue:
    return Queue(store, name, lease=5.0, max_bytes=10**6, max_events=10**4)


async def forget_names(store: Store) -> None:
    """As a version left it that did not note them."""
    await store.commands(*(("DEL", endpoints_key(partition)) for partition in range(PARTITIONS)))


async def keys_of(store: Store, name: str) -> list[bytes]:
    (keys,) = await store.commands(("KEYS", f"sl:*:{name}:*"))
    return list(keys)


async def test_an_endpoint_is_found_from_its_first_event_on(store: Store) -> None:
    assert await stranded(store, ["laravel"]) == {}
    for name in ("laravel", "gone", "crm"):
        for _ in range(3):
            await accept(a_queue(store, name), event(session=None))
    assert await endpoints.names(store) == {"laravel", "gone", "crm"}
    left = await stranded(store, ["laravel"])
    assert {name: counts.waiting for name, counts in left.items()} == {"crm": 3, "gone": 3}


async def test_what_an_earlier_version_left_is_found_once(store: Store) -> None:
    await accept(a_queue(store), event())
    await forget_names(store)
    await janitor.run_once(store, ["laravel"], Retention(60.0, 60.0))
    assert await endpoints.names(store) == {"laravel", "gone"}
    await forget_names(store)
    await endpoints.search(store)
    assert await endpoints.names(store) == set()


async def test_a_search_meets_every_endpoint_among_many_keys(store: Store) -> None:
    await store.commands(*(("SET", f"sl:{{l}}:limit\0{number}", 1) for number in range(5000)))
    for name in ("a", "b"):
        await accept(a_queue(store, name), event())
    await forget_names(store)
    await endpoints.search(store)
    assert await endpoints.names(store) == {"a", "b"}


async def test_dead_letters_of_an_endpoint_that_is_gone_are_dropped_for_their_age(store: Store) -> None:
    queue = a_queue(store)
    await accept(queue, event())
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 100)).leased
    await queue.poll([Settlement(leased, "dead", "answered 422")], 0)
    await janitor.run_once(store, ["laravel"], Retention(60.0, 60.0))
    assert (await queue.counts()).dead == 1
    await janitor.run_once(store, ["laravel"], Retention(60.0, 0.0))
    assert (await queue.counts()).dead == 0


async def test_what_is_not_worth_sending_any_more_expires_there_too_and_the_rest_waits(store: Store) -> None:
    queue = a_queue(store)
    stale, fresh, endless = event("a", ttl=0.001), event("a", ttl=600.0), event("b")
    for one in (stale, fresh, endless):
        await accept(queue, one)
    await accept(a_queue(store, "laravel"), event("c", ttl=0.001))
    await asyncio.sleep(0.01)
    await janitor.run_once(store, ["laravel"], Retention(60.0, 60.0))
    counts = await queue.counts()
    assert (counts.waiting, counts.expired) == (2, 1)
    history = await history_of(store, ["gone"], stale.id)
    assert history is not None
    assert history.endpoints[0].state == "expired"
    assert (await a_queue(store, "laravel").counts()).waiting == 1, "its relay clears that away"


async def test_an_endpoint_of_which_nothing_is_left_leaves_no_key(store: Store) -> None:
    queue = a_queue(store)
    await accept(queue, event())
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 100)).leased
    await queue.poll([Settlement(leased, "delivered", 0, "200 1")], 0)
    await janitor.run_once(store, ["laravel"], Retention(60.0, 60.0))
    assert await endpoints.names(store) == {"laravel", "gone"}, "its history can still be looked at"
    await janitor.run_once(store, ["laravel"], Retention(0.0, 60.0))
    assert await endpoints.names(store) == {"laravel"}
    assert await keys_of(store, "gone") == []
    await accept(queue, event())
    assert await endpoints.names(store) == {"laravel", "gone"}, "noted again"


async def test_what_is_leased_when_its_time_is_over_is_left_to_its_holder(store: Store) -> None:
    queue = a_queue(store)
    await accept(queue, event(ttl=0.05))
    queue.look_everywhere()
    (leased,) = (await queue.poll([], 100)).leased
    await asyncio.sleep(0.1)
    assert await Waiting(store, "gone").expire() == 0
    assert (await queue.poll([Settlement(leased, "delivered", 0, "200 1")], 0)).refused == []


async def test_the_dead_letters_of_one_endpoint_are_not_those_of_another(store: Store) -> None:
    queue = a_queue(store)
    await accept(queue, event())
    assert [letter async for letter in DeadLetters(store, "laravel").all()] == []
