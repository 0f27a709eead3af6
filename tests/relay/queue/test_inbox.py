from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.queue.codec import Delivery, Event
from relay.queue.dead_letters import DeadLetters
from relay.queue.errors import OtherContent
from relay.queue.inbox import Accepted, Inbox
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import event

pytestmark = pytest.mark.anyio


@pytest.fixture
def inbox(store: Store) -> Inbox:
    return Inbox(store)


def queue_of(store: Store, endpoint: str, **more: object) -> Queue:
    known = {"lease": 30.0, "max_bytes": 10**6, "max_events": 1000}
    return Queue(store, endpoint, **{**known, **more})  # type: ignore[arg-type]


async def lease(queue: Queue, settled: list[Settlement] | None = None) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll(settled or [], 100)).leased


async def test_an_event_for_several_endpoints_is_stored_once_and_delivered_to_each(inbox: Inbox, store: Store) -> None:
    one, other = queue_of(store, "one"), queue_of(store, "other")
    body = b"x" * 100_000
    await inbox.accept(event(body=body), [one.destination, other.destination])
    records = [await store.redis.hlen(f"sl:{{{p:02d}}}:events") for p in range(4)]
    assert sum(records) == 1
    (first,) = await lease(one)
    assert first.body == body
    await one.poll([Settlement(first, "delivered")], 0)
    (second,) = await lease(other)
    assert (second.body, second.id) == (body, first.id)
    await other.poll([Settlement(second, "delivered")], 0)
    kinds = {key.rsplit(b":", 1)[1] for key in await store.redis.keys("sl:{*")}
    assert kinds == {b"counts", b"dedupe", b"endpoints", b"seq", b"history"}


async def test_endpoints_do_not_wait_for_each_other(inbox: Inbox, store: Store) -> None:
    one, other = queue_of(store, "one"), queue_of(store, "other")
    events = [event(body=b"%d" % i) for i in range(3)]
    for given in events:
        await inbox.accept(given, [one.destination, other.destination])
    (stuck,) = await lease(one)
    bodies, settled = [], list[Settlement]()
    while heads := await lease(other, settled):
        bodies.append(heads[0].body)
        settled = [Settlement(heads[0], "delivered")]
    assert bodies == [b"0", b"1", b"2"]
    assert (await one.counts()).waiting == 2
    (then,) = await lease(one, [Settlement(stuck, "delivered")])
    assert then.body == b"1"


async def test_concurrent_events_for_different_endpoints_share_their_round_trips(inbox: Inbox, store: Store) -> None:
    queues = [queue_of(store, name) for name in ("a", "b", "c")]
    before = store.trips
    await asyncio.gather(
        *(inbox.accept(event(f"s{i}"), [queues[i % 3].destination, queues[(i + 1) % 3].destination]) for i in range(60))
    )
    assert store.trips - before <= 2
    assert [(await queue.counts()).accepted for queue in queues] == [40, 40, 40]


async def test_a_repeat_is_recognised_by_any_endpoint_and_long_after_it_was_delivered(
    inbox: Inbox, store: Store
) -> None:
    queue = queue_of(store, "one")
    given = event()
    assert not (await inbox.accept(given, [queue.destination])).repeat
    assert (await inbox.accept(given, [queue.destination])).repeat
    await lease(queue, [Settlement(delivery, "delivered") for delivery in await lease(queue)])
    assert (await inbox.accept(given, [queue.destination])).repeat
    assert (await queue.counts()).repeats == 2


async def test_the_same_id_with_another_digest_is_no_repeat_as_long_as_it_is_recognised(
    inbox: Inbox, store: Store
) -> None:
    queue = queue_of(store, "one")
    given = event(digest="a1", dedupe_window=600.0)
    other = replace(given, digest="b2", body=b"other")
    together = await asyncio.gather(
        *(inbox.accept(one, [queue.destination]) for one in (given, other, given)), return_exceptions=True
    )
    assert [type(one) for one in together] == [Accepted, OtherContent, Accepted]
    with pytest.raises(OtherContent):
        await inbox.accept(other, [queue.destination])
    await lease(queue, [Settlement(delivery, "delivered") for delivery in await lease(queue)])
    with pytest.raises(OtherContent):
        await inbox.accept(other, [queue.destination])
    assert (await inbox.accept(given, [queue.destination])).repeat
    counts = await queue.counts()
    assert (counts.accepted, counts.repeats) == (1, 2)


async def test_a_digest_is_forgotten_with_its_id(inbox: Inbox, store: Store) -> None:
    queue = queue_of(store, "one")
    given = event(digest="first", dedupe_window=0.05)
    await inbox.accept(given, [queue.destination])
    await asyncio.sleep(0.06)
    assert (await inbox.accept(replace(given, digest="other"), [queue.destination])).repeat, "it still waits"
    await lease(queue, [Settlement(delivery, "delivered") for delivery in await lease(queue)])
    assert not (await inbox.accept(replace(given, digest="other"), [queue.destination])).repeat
    for n in range(4):  # what is over is forgotten as others are settled
        await inbox.accept(event("s1", dedupe_window=0.0, body=b"%d" % n), [queue.destination])
        await lease(queue, [Settlement(delivery, "delivered") for delivery in await lease(queue)])
    left = [await store.redis.zrange(f"sl:{{{p:02d}}}:dedupe", 0, -1) for p in range(4)]
    assert all(b"first" not in member for members in left for member in members)


async def test_a_repeat_in_the_same_call_is_recognised_of_what_it_replaced_too(inbox: Inbox, store: Store) -> None:
    queue = queue_of(store, "one")
    older, newer = event(body=b"older", coalesce_key="receipt"), event(body=b"newer", coalesce_key="receipt")
    await inbox.accept(event("another", body=b"first"), [queue.destination])
    before = store.trips
    accepted = await asyncio.gather(
        *(inbox.accept(one, [queue.destination]) for one in (older, older, newer, older, newer))
    )
    assert store.trips - before == 1
    assert [one.repeat for one in accepted] == [False, True, False, True, True]
    assert sorted(one.body for one in await lease(queue)) == [b"first", b"newer"]


async def test_events_of_one_call_keep_their_order_and_a_newer_one_its_place(inbox: Inbox, store: Store) -> None:
    queue = queue_of(store, "one")
    given = [
        *(event(body=b"first"), event(body=b"old", coalesce_key="receipt"), event(body=b"then")),
        *(event(body=b"new", coalesce_key="receipt"), event("s2", body=b"other"), event(body=b"last")),
    ]
    await asyncio.gather(*(inbox.accept(one, [queue.destination]) for one in given))
    bodies, settled = [], list[Settlement]()
    while heads := await lease(queue, settled):
        bodies += [head.body for head in heads]
        settled = [Settlement(head, "delivered") for head in heads]
    assert [body for body in bodies if body != b"other"] == [b"first", b"new", b"then", b"last"]
    assert b"other" in bodies
    assert (await queue.counts()).bytes == 0


async def test_an_id_is_new_again_when_its_time_is_over_and_it_has_left(inbox: Inbox, store: Store) -> None:
    queue = queue_of(store, "one")
    given = event(dedupe_window=0.0)
    await inbox.accept(given, [queue.destination])
    assert (await inbox.accept(given, [queue.destination])).repeat, "it is still here"
    await lease(queue, [Settlement(delivery, "delivered") for delivery in await lease(queue)])
    assert not (await inbox.accept(given, [queue.destination])).repeat


async def test_what_one_endpoint_is_delivering_is_replaced_for_the_other_only(inbox: Inbox, store: Store) -> None:
    busy, idle = queue_of(store, "busy"), queue_of(store, "idle")
    destinations = [busy.destination, idle.destination]
    await inbox.accept(event(body=b"old", coalesce_key="receipt"), destinations)
    (in_flight,) = await lease(busy)
    await inbox.accept(event(body=b"between"), destinations)
    await inbox.accept(event(body=b"new", coalesce_key="receipt"), destinations)

    async def all_of(queue: Queue, settled: list[Settlement]) -> list[bytes]:
        bodies = []
        while heads := await lease(queue, settled):
            bodies.append(heads[0].body)
            settled = [Settlement(heads[0], "delivered")]
        return bodies

    assert await all_of(busy, [Settlement(in_flight, "delivered")]) == [b"between", b"new"]
    assert await all_of(idle, []) == [b"new", b"between"]
    assert sum([await store.redis.hlen(f"sl:{{{p:02d}}}:events") for p in range(4)]) == 0
    assert [(await queue.counts()).bytes for queue in (busy, idle)] == [0, 0]


async def test_without_order_no_event_waits_for_another(inbox: Inbox, store: Store) -> None:
    queue = queue_of(store, "one", in_order=False)
    for i in range(5):
        await inbox.accept(event(body=b"%d" % i), [queue.destination])
    assert len(await lease(queue)) == 5


async def test_without_order_a_newer_event_still_replaces_a_waiting_one(inbox: Inbox, store: Store) -> None:
    queue = queue_of(store, "one", in_order=False)
    for body in (b"1", b"2", b"3"):
        await inbox.accept(event(body=body, coalesce_key="typing"), [queue.destination])
    (left,) = await lease(queue)
    assert left.body == b"3"
    await queue.poll([Settlement(left, "delivered")], 0)
    kinds = {key.rsplit(b":", 1)[1] for key in await store.redis.keys("sl:{*")}
    assert kinds == {b"counts", b"dedupe", b"endpoints", b"seq", b"history"}


async def test_a_dead_letter_of_one_endpoint_keeps_its_body_when_the_other_has_got_it(
    inbox: Inbox, store: Store
) -> None:
    one, other = queue_of(store, "one"), queue_of(store, "other")
    await inbox.accept(event(body=b"precious"), [one.destination, other.destination])
    await one.poll([Settlement((await lease(one))[0], "dead", "answered 422")], 0)
    await other.poll([Settlement((await lease(other))[0], "delivered")], 0)
    letters = [letter async for letter in DeadLetters(store, "one").all(with_bodies=True)]
    assert [(letter.event.body, letter.reason) for letter in letters] == [(b"precious", "answered 422")]
    assert await DeadLetters(store, "one").drop(letters) == 1
    assert sum([await store.redis.hlen(f"sl:{{{p:02d}}}:events") for p in range(4)]) == 0


async def test_an_event_takes_little_memory(inbox: Inbox, store: Store) -> None:
    """At most 1.2 kB of the store for an event of 512 bytes, with what is needed to recognise a repeat."""
    queue = queue_of(store, "laravel", max_bytes=10**9, max_events=10**6)
    before = int((await store.redis.info("memory"))["used_memory"])
    events = 20_000
    headers = ((b"content-type", b"application/json"), (b"user-agent", b"node"), (b"accept", b"*/*"))

    def given(i: int) -> Event:
        return event(f"session_{i % 200}", b"x" * 512, headers=headers, dedupe_window=86400.0, target=b"/api/webhooks")

    for first in range(0, events, 1000):
        await asyncio.gather(*(inbox.accept(given(i), [queue.destination]) for i in range(first, first + 1000)))
    each = (int((await store.redis.info("memory"))["used_memory"]) - before) / events
    assert each <= 1200, f"{each:.0f} bytes"


async def test_a_header_with_a_line_break_is_refused(inbox: Inbox, store: Store) -> None:
    with pytest.raises(ValueError, match="a header has a line break in it"):
        await inbox.accept(event(headers=((b"a", b"1\nb: 2"),)), [queue_of(store, "one").destination])
    assert (await queue_of(store, "one").counts()).waiting == 0
