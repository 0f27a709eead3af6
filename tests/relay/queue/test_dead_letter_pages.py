"""Dead letters a page at a time, and by their ids."""

from __future__ import annotations

import pytest

from relay.queue.dead_letter_pages import by_ids, oldest_first
from relay.queue.dead_letters import DeadLetters
from relay.queue.queue import Queue
from sluice.store.client import Store
from tests.relay.queue.test_dead_letters import bury

pytestmark = pytest.mark.anyio


def a_queue(store: Store, name: str) -> Queue:
    return Queue(store, name, lease=60.0, max_bytes=10**8, max_events=10**5)


async def test_over_endpoints_and_partitions_the_oldest_come_first(store: Store) -> None:
    for name in ("b", "a", "b"):
        await bury(a_queue(store, name), 30)
    places = [place async for place, _ in oldest_first(store, ["a", "b"])]
    assert places == sorted(places)
    assert len(places) == 90


@pytest.mark.parametrize("size", [1, 7, 250])
async def test_pages_that_begin_where_the_last_one_ended_show_each_once(store: Store, size: int) -> None:
    await bury(a_queue(store, "a"), 300)
    await same_moment(store, "a")
    seen, after = [], None
    for _ in range(300):
        page = []
        async for place, letter in oldest_first(store, ["a"], after):
            page.append((place, letter.event.id))
            if len(page) == size:
                break
        if not page:
            break
        seen += [identity for _, identity in page]
        after = page[-1][0]
    assert len(seen) == len(set(seen)) == 300


async def same_moment(store: Store, name: str) -> None:
    for partition in range(4):
        key = f"sl:{{{partition:02d}}}:{name}:dead"
        (entry_ids,) = await store.commands(("ZRANGE", key, 0, -1))
        await store.commands(("ZADD", key, *(part for one in entry_ids for part in (1_700_000_000_123, one))))


async def test_bodies_are_not_read_unless_asked_for(store: Store) -> None:
    queue = a_queue(store, "a")
    await bury(queue, 3, b"x" * 100_000)
    before = await sent(store)
    sizes = sorted([letter.size async for _, letter in oldest_first(store, ["a"])])
    assert sizes == [100_000] * 3
    assert await sent(store) - before < 20_000
    bodies = [letter.event.body async for _, letter in oldest_first(store, ["a"], with_bodies=True)]
    assert max(map(len, bodies)) == 100_000


async def sent(store: Store) -> int:
    """Bytes that the store has answered so far."""
    (about,) = await store.commands(("INFO", "stats"))
    return int(about.decode().split("total_net_output_bytes:")[1].split()[0])


async def test_those_of_some_ids_are_found_without_a_look_at_the_others(store: Store) -> None:
    await bury(a_queue(store, "a"), 500)
    letters = [letter async for letter in DeadLetters(store, "a").all()]
    trips = store.trips
    found = await by_ids(store, ["a", "b"], [letters[7].event.id, letters[400].event.id, "evt_none"])
    assert sorted(letter.event.id for _, letter in found) == sorted(letters[at].event.id for at in (7, 400))
    assert {letter.reason for _, letter in found} == {"answered 422: no"}
    assert store.trips - trips < 30
