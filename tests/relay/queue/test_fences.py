"""What a former owner of a session still sends is refused."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import pytest

from relay.queue import fences
from relay.queue.codec import Event
from relay.queue.errors import BacklogFull, FenceBeyond, StaleFence
from relay.queue.inbox import Inbox
from relay.queue.layout import PARTITIONS, fences_key, partition_of
from relay.queue.queue import Queue
from sluice.store.client import Store
from tests.relay.making import event

pytestmark = pytest.mark.anyio
NOW = int(time.time() * 1e6)
HOUR = 3600 * 10**6


@pytest.fixture
def inbox(store: Store) -> Inbox:
    return Inbox(store)


def queue_of(store: Store, endpoint: str = "laravel") -> Queue:
    return Queue(store, endpoint, lease=30.0, max_bytes=10**6, max_events=1000)


async def test_nothing_is_accepted_under_a_lower_fence_of_its_session(inbox: Inbox, store: Store) -> None:
    to = [queue_of(store).destination]
    for fence in (NOW, NOW, NOW + 1):
        assert not (await inbox.accept(event("s1", fence=fence), to)).repeat
    with pytest.raises(StaleFence):
        await inbox.accept(event("s1", fence=NOW), to)
    assert not (await inbox.accept(event("s2", fence=NOW - 5), to)).repeat, "of another session"
    assert not (await inbox.accept(event("s1"), to)).repeat, "an existing worker knows of no fence"
    assert (await queue_of(store).counts()).waiting == 5


async def test_a_repeat_of_what_was_accepted_is_one_whoever_owns_the_session_by_then(
    inbox: Inbox, store: Store
) -> None:
    to = [queue_of(store).destination]
    given = event("s1", fence=NOW)
    await inbox.accept(given, to)
    await inbox.accept(event("s1", fence=NOW + 1), to)
    assert (await inbox.accept(given, to)).repeat
    assert (await inbox.accept(replace(given, fence=NOW + 1), to)).repeat


async def test_a_fence_holds_for_every_endpoint_and_a_refused_event_is_stored_for_none(
    inbox: Inbox, store: Store
) -> None:
    one, other = queue_of(store, "one"), queue_of(store, "other")
    await inbox.accept(event("s1", fence=NOW + 1), [one.destination])
    with pytest.raises(StaleFence):
        await inbox.accept(event("s1", fence=NOW), [other.destination, one.destination])
    assert [(await queue.counts()).waiting for queue in (one, other)] == [1, 0]


async def test_what_finds_no_room_raises_no_fence(inbox: Inbox, store: Store) -> None:
    to = queue_of(store).destination
    await inbox.accept(event("s1", fence=NOW), [to])
    with pytest.raises(BacklogFull):
        await inbox.accept(event("s1", fence=NOW + 1), [replace(to, max_events=1)])
    assert not (await inbox.accept(event("s1", fence=NOW), [to])).repeat


async def test_a_fence_that_nobody_can_have_been_given_yet_is_refused(inbox: Inbox, store: Store) -> None:
    to = [queue_of(store).destination]
    await inbox.accept(event("s1", fence=NOW + HOUR - 60 * 10**6), to)
    for beyond in (NOW + HOUR + 3600 * 10**6, 9_999_999_999_999_999):
        with pytest.raises(FenceBeyond):
            await inbox.accept(event("s2", fence=beyond), to)
    assert not (await inbox.accept(event("s2", fence=NOW), to)).repeat


async def test_it_costs_no_round_trip_and_holds_within_one(inbox: Inbox, store: Store) -> None:
    to = [queue_of(store).destination]
    await inbox.accept(event("s1"), to)
    before = store.trips
    given = [event("s1", fence=NOW + step) for step in (1, 3, 2, 3)]
    answers = await asyncio.gather(*(inbox.accept(one, to) for one in given), return_exceptions=True)
    assert [isinstance(answer, StaleFence) for answer in answers] == [False, False, True, False]
    assert store.trips - before == 1


async def test_in_any_order_accepted_fences_of_a_session_never_decrease(inbox: Inbox, store: Store) -> None:
    seed = random.randrange(10**6)
    choose, to = random.Random(seed), [queue_of(store).destination]
    accepted: dict[str, list[int]] = {}
    given: list[Event] = []
    for _ in range(200):
        if given and choose.random() < 0.2:
            assert (await inbox.accept(choose.choice(given), to)).repeat, seed
            continue
        session, fence = choose.choice(["s1", "s2", "s3"]), NOW + choose.randrange(50)
        one = event(session, fence=fence)
        try:
            await inbox.accept(one, to)
        except StaleFence:
            assert fence < accepted[session][-1], seed
        else:
            given.append(one)
            accepted.setdefault(session, []).append(fence)
    assert all(fences == sorted(fences) for fences in accepted.values()), seed


async def test_old_fences_are_forgotten_and_so_are_the_lowest_of_too_many(inbox: Inbox, store: Store) -> None:
    key, two_days = fences_key(partition_of("s1")), 2 * 24 * HOUR
    await store.commands(
        *(
            ("ZADD", key, *(part for n in range(i, i + 1000) for part in (NOW - HOUR + n, f"other-{n}")))
            for i in range(0, 50_000, 1000)
        )
    )
    await inbox.accept(event("s1", fence=NOW), [queue_of(store).destination])
    await store.commands(("ZADD", fences_key((partition_of("s1") + 1) % PARTITIONS), NOW - two_days - HOUR, "old"))
    await fences.forget_old(store)
    sizes = await store.commands(*(("ZCARD", fences_key(partition)) for partition in range(PARTITIONS)))
    assert sum(sizes) == 50_000
    assert await store.commands(("ZSCORE", key, "other-0"), ("ZSCORE", key, "s1")) == [None, str(NOW).encode()]
