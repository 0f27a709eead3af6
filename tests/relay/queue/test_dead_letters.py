from __future__ import annotations

import pytest

from relay.queue.dead_letters import DeadLetters
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import accept, event

pytestmark = pytest.mark.anyio


async def bury(queue: Queue, events: int, body: bytes = b"{}") -> None:
    for _ in range(events):
        await accept(queue, event(None, body))
    left = events
    while left:
        queue.look_everywhere()
        leased = (await queue.poll([], 500)).leased
        await queue.poll([Settlement(one, "dead", "answered 422: no") for one in leased], 0)
        left -= len(leased)


async def test_what_goes_while_they_are_read_hides_nothing_that_stays(store: Store) -> None:
    queue = Queue(store, "laravel", lease=5.0, max_bytes=10**8, max_events=10**5)
    await bury(queue, 1500)
    letters, seen = DeadLetters(store, "laravel"), set[str]()
    async for letter in letters.all():
        seen.add(letter.event.id)
        if len(seen) % 3 == 0:
            await letters.drop([letter])
    assert len(seen) == 1500
    assert (await queue.counts()).dead == 1000


async def test_many_of_one_moment_are_all_read(store: Store) -> None:
    queue = Queue(store, "laravel", lease=5.0, max_bytes=10**8, max_events=10**5)
    await bury(queue, 900)
    for partition in range(4):
        key = f"sl:{{{partition:02d}}}:laravel:dead"
        (eids,) = await store.commands(("ZRANGE", key, 0, -1))
        await store.commands(("ZADD", key, *(part for entry_id in eids for part in (1_700_000_000_123, entry_id))))
    assert len({letter.event.id async for letter in DeadLetters(store, "laravel").all()}) == 900
