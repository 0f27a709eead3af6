"""How much may wait for an endpoint, in all partitions together, and what becomes of an event's other endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from relay.queue.codec import Delivery, Event
from relay.queue.dead_letters import DeadLetters
from relay.queue.errors import BacklogFull
from relay.queue.inbox import Accepted, Inbox
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import event

pytestmark = pytest.mark.anyio


@pytest.fixture
def inbox(store: Store) -> Inbox:
    return Inbox(store)


def queue_of(store: Store, endpoint: str = "laravel", **more: object) -> Queue:
    known = {"lease": 30.0, "max_bytes": 10**8, "max_events": 1000}
    return Queue(store, endpoint, **{**known, **more})  # type: ignore[arg-type]


async def accept(inbox: Inbox, one: Event, *queues: Queue) -> Accepted:
    return await inbox.accept(one, [queue.destination for queue in queues])


async def accepted(inbox: Inbox, queue: Queue, events: Sequence[Event]) -> int:
    """How many of these, given one after the other as fast as they are taken."""

    async def give(one: Event) -> bool:
        try:
            await inbox.accept(one, [queue.destination])
        except BacklogFull:
            return False
        return True

    return sum(await asyncio.gather(*(give(one) for one in events)))


async def lease(queue: Queue) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll([], 100)).leased


async def deliver(queue: Queue) -> list[bytes]:
    """All that waits, in the order in which it is sent."""
    bodies: list[bytes] = []
    while leased := await lease(queue):
        bodies += [one.body for one in leased]
        await queue.poll([Settlement(one, "delivered") for one in leased], 0)
    return bodies


# --- one backlog for all partitions


@pytest.mark.parametrize("sessions", [1, 2, 3, 500], ids=lambda n: f"{n} sessions")
async def test_all_of_a_backlog_is_used_and_no_more(store: Store, inbox: Inbox, sessions: int) -> None:
    queue = queue_of(store)
    given = [event(f"s{i % sessions}") for i in range(1500)]
    assert await accepted(inbox, queue, given) == 1000
    assert await accepted(inbox, queue, given[:500]) == 500  # repeats are not refused


async def test_a_backlog_that_is_full_in_bytes_is_so_over_all_partitions(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store, max_bytes=1_000_000)
    taken = await accepted(inbox, queue, [event(f"s{i % 7}", b"x" * 1000) for i in range(2000)])
    counts = await queue.counts()
    assert 980_000 <= counts.bytes <= 1_001_500
    assert counts.waiting == taken


@pytest.mark.parametrize("sessions", [1, 500], ids=lambda n: f"{n} sessions")
async def test_several_gateways_share_it_within_two_percent(store: Store, store_url: str, sessions: int) -> None:
    queue, gateways = queue_of(store), [Store(store_url, timeout=5.0) for _ in range(4)]
    inboxes = [Inbox(gateway) for gateway in gateways]
    taken = await asyncio.gather(
        *(
            accepted(inbox, queue, [event(f"s{(i + n) % sessions}") for i in range(600)])
            for n, inbox in enumerate(inboxes)
        )
    )
    for gateway in gateways:
        await gateway.close()
    assert 980 <= sum(taken) <= 1020
    assert (await queue.counts()).waiting == sum(taken)


async def test_a_gateway_that_begins_late_knows_what_waits(store: Store) -> None:
    queue = queue_of(store)
    assert await accepted(Inbox(store), queue, [event(f"s{i}") for i in range(990)]) == 990
    assert await accepted(Inbox(store), queue, [event(f"t{i}") for i in range(100)]) == 10


async def test_what_left_by_another_process_makes_room_at_once(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store, max_events=100)
    assert await accepted(inbox, queue, [event(f"s{i}") for i in range(120)]) == 100
    await deliver(queue)
    await asyncio.sleep(0.1)
    assert await accepted(inbox, queue, [event(f"t{i}") for i in range(120)]) == 100


async def test_bulk_is_refused_at_nine_tenths_of_all_partitions(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store)
    assert await accepted(inbox, queue, [event(f"s{i}", lane="bulk") for i in range(1200)]) == 900
    assert await accepted(inbox, queue, [event(f"s{i}") for i in range(200)]) == 100


async def test_one_event_larger_than_a_part_of_the_room_finds_all_of_it(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store, max_bytes=1_000_000)
    await accept(inbox, event("s1", b"x" * 900_000), queue)
    with pytest.raises(BacklogFull):
        await accept(inbox, event("s2", b"x" * 200_000), queue)


async def test_events_of_a_session_keep_their_order_while_it_fills_up(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store, max_events=200)
    taken = await accepted(inbox, queue, [event("s1", b"%d" % i) for i in range(300)])
    assert [int(body) for body in await deliver(queue)] == list(range(taken)) == list(range(200))


async def test_while_there_is_room_an_accept_is_one_round_trip(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store)
    await accept(inbox, event(), queue)
    before = store.trips
    for i in range(400):
        await accept(inbox, event(f"s{i}"), queue)
    assert store.trips - before == 400


async def test_refusing_is_one_round_trip_too_but_for_a_few_each_second(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store, max_events=10)
    await accepted(inbox, queue, [event(f"s{i}") for i in range(20)])
    before, began = store.trips, asyncio.get_running_loop().time()
    for i in range(200):
        assert await accepted(inbox, queue, [event(f"s{i}")]) == 0
    looked = (asyncio.get_running_loop().time() - began) / 0.05 + 1
    assert store.trips - before <= 200 + 2 * looked


# --- dead letters have a budget of their own


async def bury(store: Store, inbox: Inbox, queue: Queue, events: Sequence[Event]) -> None:
    assert await accepted(inbox, queue, events) == len(events)
    while leased := await lease(queue):
        await queue.poll([Settlement(one, "dead", "answered 422") for one in leased], 0)


async def test_dead_letters_take_nothing_from_what_may_wait(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store, max_events=100, max_bytes=100_000)
    await bury(store, inbox, queue, [event(f"s{i}", b"x" * 500) for i in range(100)])
    assert await accepted(inbox, queue, [event(f"t{i}", b"x" * 500) for i in range(100)]) == 100
    counts = await queue.counts()
    assert (counts.dead, counts.waiting) == (100, 100)
    assert min(counts.dead_bytes, counts.bytes) > 50_000


async def test_bytes_follow_a_dead_letter_back_and_away(store: Store, inbox: Inbox) -> None:
    queue, letters = queue_of(store), DeadLetters(store, "laravel")
    await bury(store, inbox, queue, [event("s1", b"x" * 100), event("s2", b"x" * 200)])
    total = (await queue.counts()).dead_bytes
    one, other = [letter async for letter in letters.all()]
    await letters.replay([one])
    counts = await queue.counts()
    assert 0 < counts.bytes < total == counts.bytes + counts.dead_bytes
    await letters.drop([other])
    assert (await queue.counts()).dead_bytes == 0
    await deliver(queue)
    assert (await queue.counts()).bytes == 0


async def test_the_oldest_dead_letters_of_all_partitions_are_dropped_where_there_are_too_many(
    store: Store, inbox: Inbox
) -> None:
    queue, letters = queue_of(store), DeadLetters(store, "laravel")
    for i in range(12):
        await bury(store, inbox, queue, [event(f"s{i}", b"%d" % i)])
        await asyncio.sleep(0.002)
    assert await letters.trim(5, 10**9) == 7
    assert await letters.trim(5, 10**9) == 0
    assert sorted([int(letter.event.body) async for letter in letters.all(with_bodies=True)]) == [7, 8, 9, 10, 11]
    told = (await queue.counts()).lately["capped"]
    assert told.times == 7
    assert 5 > told.since >= told.last >= 0


async def test_dead_letters_are_capped_in_bytes_too(store: Store, inbox: Inbox) -> None:
    queue, letters = queue_of(store), DeadLetters(store, "laravel")
    await bury(store, inbox, queue, [event(f"s{i}", b"x" * 1000) for i in range(600)])
    await letters.trim(10**6, 100_000)
    assert 98_000 <= (await queue.counts()).dead_bytes <= 100_000


# --- endpoints of one event are independent


async def test_a_full_endpoint_is_left_out_and_the_others_get_the_event(store: Store, inbox: Inbox) -> None:
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1)
    assert (await accept(inbox, event(), roomy, tight)).left_out == ()
    assert (await accept(inbox, event(), roomy, tight)).left_out == ("tight",)
    assert ((await roomy.counts()).waiting, (await tight.counts()).waiting) == (2, 1)
    counts = await tight.counts()
    assert (counts.left_out, counts.refused, counts.lately["left_out"].times) == (1, 0, 1)


async def test_an_event_is_refused_when_all_its_endpoints_are_full(store: Store, inbox: Inbox) -> None:
    one, other = queue_of(store, "one", max_events=1), queue_of(store, "other", max_events=1)
    await accept(inbox, event(), one, other)
    with pytest.raises(BacklogFull, match="the backlog of one is full"):
        await accept(inbox, event(), one, other)
    for queue in (one, other):
        counts = await queue.counts()
        assert (counts.refused, counts.left_out, counts.lately["refused"].times) == (1, 0, 1)


async def test_a_full_required_endpoint_refuses_the_event_for_all(store: Store, inbox: Inbox) -> None:
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1, required=True)
    await accept(inbox, event(), roomy, tight)
    with pytest.raises(BacklogFull, match="the backlog of tight is full") as refused:
        await accept(inbox, event(), roomy, tight)
    assert refused.value.endpoint == "tight"
    assert ((await roomy.counts()).waiting, (await tight.counts()).waiting) == (1, 1)
    assert (await roomy.counts()).refused == 0


async def test_beside_a_required_endpoint_with_room_a_full_one_is_left_out(store: Store, inbox: Inbox) -> None:
    required, tight = queue_of(store, "required", required=True), queue_of(store, "tight", max_events=1)
    await accept(inbox, event(), required, tight)
    assert (await accept(inbox, event(), required, tight)).left_out == ("tight",)


async def test_a_repeat_names_the_left_out_ones_again_and_brings_it_to_those_that_have_room(
    store: Store, inbox: Inbox
) -> None:
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1)
    await accept(inbox, event("s1", b"first"), roomy, tight)
    second = event("s1", b"second")
    answers = [await accept(inbox, second, roomy, tight) for _ in range(2)]
    assert [(one.repeat, one.left_out) for one in answers] == [(False, ("tight",)), (True, ("tight",))]
    assert await deliver(tight) == [b"first"]
    answers = [await accept(inbox, second, roomy, tight) for _ in range(2)]
    assert [(one.repeat, one.left_out) for one in answers] == [(True, ()), (True, ())]
    assert await deliver(tight) == [b"second"]
    assert await deliver(roomy) == [b"first", b"second"]
    assert sum([await store.redis.hlen(f"sl:{{{p:02d}}}:{name}") for p in range(4) for name in ("events", "refs")]) == 0


async def test_a_repeat_goes_before_younger_events_of_its_session(store: Store, inbox: Inbox) -> None:
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1)
    await accept(inbox, event("s1", b"first"), roomy, tight)
    second = event("s1", b"second")
    await accept(inbox, second, roomy, tight)
    assert await deliver(tight) == [b"first"]
    tight = queue_of(store, "tight")
    await accept(inbox, event("s1", b"third"), roomy, tight)
    await accept(inbox, second, roomy, tight)
    assert await deliver(tight) == [b"second", b"third"]


async def test_a_repeat_is_stored_again_where_the_others_have_got_it_meanwhile(store: Store, inbox: Inbox) -> None:
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1)
    await accept(inbox, event("s1", b"first"), roomy, tight)
    second = event("s1", b"second")
    await accept(inbox, second, roomy, tight)
    assert await deliver(roomy) == [b"first", b"second"]
    assert await deliver(tight) == [b"first"]
    assert (await accept(inbox, second, roomy, tight)).repeat
    assert (await deliver(roomy), await deliver(tight)) == ([], [b"second"])


async def test_an_answer_that_was_lost_names_the_left_out_ones_the_second_time(store: Store, inbox: Inbox) -> None:
    """As when the connection breaks: the call runs twice, and its sender hears of the second time only."""
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1)
    await accept(inbox, event(), roomy, tight)
    given = event()
    await accept(inbox, given, roomy, tight)
    assert (await accept(inbox, given, roomy, tight)).left_out == ("tight",)
    assert ((await roomy.counts()).waiting, (await tight.counts()).left_out) == (2, 1)


async def test_repeats_of_one_call_are_stored_once(store: Store, inbox: Inbox) -> None:
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1)
    first, second = event("s1", b"first"), event("s1", b"second")
    await accept(inbox, first, roomy, tight)
    answers = await asyncio.gather(*(accept(inbox, second, roomy, tight) for _ in range(3)))
    assert [one.left_out for one in answers] == [("tight",)] * 3
    assert await deliver(tight) == [b"first"]
    await asyncio.sleep(0.1)
    answers = await asyncio.gather(*(accept(inbox, second, roomy, tight) for _ in range(3)))
    assert [one.left_out for one in answers] == [()] * 3
    assert await deliver(tight) == [b"second"]


async def test_what_takes_the_place_of_a_waiting_event_needs_no_room(store: Store, inbox: Inbox) -> None:
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1)
    await accept(inbox, event("s1", b"old", coalesce_key="typing"), roomy, tight)
    assert (await accept(inbox, event("s1", b"new", coalesce_key="typing"), roomy, tight)).left_out == ()
    assert await deliver(tight) == [b"new"]


async def test_what_was_left_out_is_not_brought_behind_what_replaces_it(store: Store, inbox: Inbox) -> None:
    roomy, tight = queue_of(store, "roomy"), queue_of(store, "tight", max_events=1)
    await accept(inbox, event("s2", b"other"), roomy, tight)
    old = event("s1", b"old", coalesce_key="typing")
    await accept(inbox, old, roomy, tight)
    await deliver(tight)
    tight = queue_of(store, "tight")
    await accept(inbox, event("s1", b"new", coalesce_key="typing"), roomy, tight)
    assert (await accept(inbox, old, roomy, tight)).left_out == ()
    assert await deliver(tight) == [b"new"]
