"""What a lease notes, so that settling need not look: what may have changed meanwhile."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest

from relay.queue.codec import Delivery
from relay.queue.dead_letters import DeadLetters
from relay.queue.layout import PARTITIONS
from relay.queue.queue import Queue, Settlement
from sluice.store import clock
from sluice.store.client import Store
from tests.relay.making import accept, event
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def queue(store: Store) -> Queue:
    return queue_of(store)


def queue_of(store: Store, **more: object) -> Queue:
    known = {"lease": 30.0, "max_bytes": 10**6, "max_events": 1000}
    return Queue(store, "laravel", **{**known, **more})  # type: ignore[arg-type]


async def lease(queue: Queue, settled: list[Settlement] | None = None, want: int = 100) -> list[Delivery]:
    queue.look_everywhere()
    polled = await queue.poll(settled or [], want)
    assert not polled.refused
    return polled.leased


async def accepted(queue: Queue, *bodies: bytes) -> None:
    for body in bodies:
        await accept(queue, event(body=body))


async def scheduled(store: Store) -> list[bytes]:
    lanes = [f"sl:{{{p:02d}}}:laravel:{lane}" for p in range(PARTITIONS) for lane in ("urgent", "normal", "bulk")]
    return [stream for lane in lanes for stream in await store.redis.zrange(lane, 0, -1)]


async def take_record_out(store: Store, delivery: Delivery) -> None:
    assert await store.redis.hdel(f"sl:{{{delivery.partition:02d}}}:events", delivery.id) == 1


@pytest.mark.parametrize("outcome", ["delivered", "dead"])
async def test_what_is_accepted_while_the_last_of_its_session_is_leased_comes_next(
    queue: Queue, outcome: Literal["delivered", "dead"]
) -> None:
    await accepted(queue, b"last")
    (last,) = await lease(queue)
    await accepted(queue, b"since")
    (since,) = await lease(queue, [Settlement(last, outcome, "no")])
    assert since.body == b"since"


async def test_a_session_of_which_nothing_waits_is_not_looked_at_any_more(queue: Queue, store: Store) -> None:
    await accepted(queue, b"last")
    (last,) = await lease(queue)
    assert await scheduled(store) == [last.stream]
    await lease(queue, [Settlement(last, "delivered")], 0)
    assert await scheduled(store) == []


async def test_a_session_whose_next_event_was_taken_out_meanwhile_is_found_empty(queue: Queue, store: Store) -> None:
    await accepted(queue, b"first", b"taken out")
    (first,) = await lease(queue)
    waiting = f"sl:{{{first.partition:02d}}}:laravel:queue"
    _, following = await store.redis.zrange(waiting, 0, -1)
    await store.redis.zrem(waiting, following)
    assert await lease(queue, [Settlement(first, "delivered")]) == []
    assert await scheduled(store) == []
    await accepted(queue, b"later")
    assert [one.body for one in await lease(queue)] == [b"later"]


async def test_what_replaced_the_next_event_meanwhile_comes_next(queue: Queue) -> None:
    await accepted(queue, b"first")
    await accept(queue, event(body=b"typing 1", coalesce_key="typing"))
    (first,) = await lease(queue)
    await accept(queue, event(body=b"typing 2", coalesce_key="typing"))
    (second,) = await lease(queue, [Settlement(first, "delivered")])
    assert second.body == b"typing 2"


async def test_a_session_whose_next_event_went_stale_meanwhile_ends(queue: Queue, store: Store) -> None:
    await accepted(queue, b"first")
    await accept(queue, event(body=b"stale", ttl=0.02))
    (first,) = await lease(queue)
    await asyncio.sleep(0.05)
    assert await lease(queue, [Settlement(first, "delivered")]) == []
    counts = await queue.counts()
    assert (counts.delivered, counts.expired, counts.waiting, counts.bytes) == (1, 1, 0, 0)
    assert await scheduled(store) == []


async def test_what_a_lease_of_several_leaves_out_comes_again_though_nothing_followed_it(store: Store) -> None:
    queue = queue_of(store, max_per_stream=3)
    await accepted(queue, b"1", b"2", b"3")
    first, second, _ = await lease(queue)
    assert [
        one.body for one in await lease(queue, [Settlement(first, "delivered"), Settlement(second, "delivered")])
    ] == [b"3"]


async def test_what_follows_a_lease_of_several_comes_next(store: Store) -> None:
    queue = queue_of(store, max_per_stream=2)
    await accepted(queue, b"1", b"2", b"3")
    leased = await lease(queue)
    assert [one.body for one in leased] == [b"1", b"2"]
    assert [one.body for one in await lease(queue, [Settlement(one, "delivered") for one in leased])] == [b"3"]


async def test_attempts_are_reported_of_those_that_failed_and_of_no_others(queue: Queue) -> None:
    await accept(queue, event("failing"))
    await accept(queue, event("well"))
    failing, well = sorted(await lease(queue), key=lambda one: one.stream)
    leased = await lease(queue, [Settlement(failing, "retry"), Settlement(well, "return")])
    assert {one.id: one.attempt for one in leased} == {failing.id: 2, well.id: 1}


async def test_what_nothing_urgent_needs_goes_to_normal_and_bulk_still_has_its_share(queue: Queue) -> None:
    for lane in ("normal", "bulk"):
        for i in range(100):
            await accept(queue, event(f"s{i}", lane=lane))
    leased = await lease(queue, want=40)
    assert (len(leased), sum(one.stream[:1] == b"b" for one in leased)) == (40, 4)


# --- records that somebody takes out of the store


async def test_one_that_was_delivered_though_its_record_was_taken_out_counts_as_delivered(
    queue: Queue, store: Store
) -> None:
    await accepted(queue, b"first", b"second")
    (first,) = await lease(queue)
    await take_record_out(store, first)
    (second,) = await lease(queue, [Settlement(first, "delivered")])
    counts = await queue.counts()
    assert (second.body, counts.delivered, counts.lost) == (b"second", 1, 0)
    await lease(queue, [Settlement(second, "delivered")])
    assert (await queue.counts()).bytes == 0


@pytest.mark.parametrize(
    "ending", [("retry", 60_000), ("retry", 0), ("return", 60_000), ("return", 0), ("dead", "no"), ("dead", "0")]
)
async def test_one_whose_record_was_taken_out_stands_in_nobodys_way(
    queue: Queue, store: Store, ending: tuple[Literal["retry", "return", "dead"], int | str]
) -> None:
    await accepted(queue, b"first", b"second")
    (first,) = await lease(queue)
    await take_record_out(store, first)
    (second,) = await lease(queue, [Settlement(first, *ending, summary="500 1 answered 500")])
    assert second.body == b"second"
    await lease(queue, [Settlement(second, "delivered")])
    counts = await queue.counts()
    assert (counts.delivered, counts.lost, counts.dead, counts.waiting) == (1, 1, 0, 0)
    assert [letter async for letter in DeadLetters(store, "laravel").all()] == []
    assert await store.redis.exists(f"sl:{{{first.partition:02d}}}:laravel:attempts") == 0


async def test_an_owner_that_says_something_else_does_not_keep_its_session(queue: Queue, store: Store) -> None:
    await accepted(queue, b"first")
    (first,) = await lease(queue)
    key = f"sl:{{{first.partition:02d}}}:laravel:"
    await store.redis.hset(key + "leases", first.stream, b"1 2 " + first.entry_id)
    await store.redis.zadd(key + "normal", {first.stream: 0})
    assert [one.body for one in await lease(queue)] == [b"first"]


# --- ids that were remembered


async def test_ids_that_are_kept_long_enough_are_removed_by_a_poll_that_settles(queue: Queue, store: Store) -> None:
    for _ in range(5):
        await accept(queue, event("s", dedupe_window=0.2))
    settled: list[Settlement] = []
    while leased := await lease(queue, settled):
        settled = [Settlement(one, "delivered") for one in leased]
    key = f"sl:{{{settled[0].delivery.partition:02d}}}:dedupe"
    assert await store.redis.zcard(key) == 5

    async def are_old() -> bool:
        return int(await store.redis.zcount(key, "-inf", (await clock.times(store, [key]))[0] * 1000)) == 5

    await until(are_old)
    await accept(queue, event("s"))
    await lease(queue, [Settlement(one, "delivered") for one in await lease(queue)])
    assert await store.redis.zcard(key) == 5 + 1 - 2  # twice as many as were settled, so that a poll stays short
