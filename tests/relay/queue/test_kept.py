"""Events that were delivered, kept to be sent once more, on a real store."""

from __future__ import annotations

import asyncio

import pytest

from relay.policies import Retention
from relay.queue import endpoints, janitor
from relay.queue.codec import Event
from relay.queue.inbox import Inbox
from relay.queue.kept import Kept, KeptEvent, once_more
from relay.queue.layout import PARTITIONS, own_key
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import accept, event

pytestmark = pytest.mark.anyio

FOREVER = 2.0**33


def a_queue(store: Store, name: str = "laravel", **more: object) -> Queue:
    known = {"lease": 5.0, "max_bytes": 10**7, "max_events": 10**5, "keep_bodies": True}
    return Queue(store, name, **{**known, **more})  # type: ignore[arg-type]


async def deliver(queue: Queue) -> list[tuple[str, bytes]]:
    """Delivers all that waits. What receivers are told as ids, and the bodies, in the order of the leases."""
    told = []
    queue.look_everywhere()
    while leased := (await queue.poll([], 500)).leased:
        told += [(one.public_id, one.body) for one in leased]
        await queue.poll([Settlement(one, "delivered", 0, "200 1") for one in leased], 0)
        queue.look_everywhere()
    return told


async def kept(store: Store, name: str = "laravel", size: int = 500) -> list[KeptEvent]:
    one = Kept(store, name)
    return [each async for page in one.places(None, None, FOREVER, None, size) for each in await one.read(page)]


async def bytes_of(store: Store, name: str = "laravel") -> int:
    """Of the records that are really there."""
    keys = [own_key(name, partition, "bodies") for partition in range(PARTITIONS)]
    return sum(len(record) for values in await store.commands(*(("HVALS", key) for key in keys)) for record in values)


async def test_what_was_delivered_is_kept_as_it_was(store: Store) -> None:
    queue = a_queue(store)
    first = event("a", b"\xff\x00", coalesce_key="typing", ttl=60.0)
    await accept(queue, first)
    assert await deliver(queue) == [(first.id, b"\xff\x00")]
    (one,) = await kept(store)
    whole = await Kept(store, "laravel").whole(first.id)
    assert whole is not None
    assert (one.event.id, one.bytes, whole.body) == (first.id, 2, b"\xff\x00")
    assert (whole.session, whole.type, whole.headers, whole.target) == ("a", first.type, first.headers, first.target)
    assert (await queue.counts()).kept_bytes == await bytes_of(store) > 0
    assert (await store.commands(*(("HLEN", f"sl:{{{partition:02d}}}:events") for partition in range(4)))) == [0] * 4


async def test_nothing_is_kept_where_nothing_is_asked_for(store: Store) -> None:
    queue = a_queue(store, keep_bodies=False)
    await accept(queue, event("a"))
    await deliver(queue)
    assert await kept(store) == []
    (keys,) = await store.commands(("KEYS", "*:bodies"))
    assert (keys, queue.has_kept) == ([], False)


async def test_what_is_dropped_or_dead_is_not_kept(store: Store) -> None:
    queue = a_queue(store)
    await accept(queue, event("a", ttl=0.01))
    await accept(queue, event("b"))
    await asyncio.sleep(0.05)
    leased = (await queue.poll([], 10)).leased
    await queue.poll([Settlement(one, "dead", "answered 422", "422 1") for one in leased], 0)
    assert len(leased) == 1
    assert await kept(store) == []


async def test_each_endpoint_keeps_an_event_that_it_got(store: Store) -> None:
    one, other, without = a_queue(store), a_queue(store, "crm"), a_queue(store, "audit", keep_bodies=False)
    sent = event("a", b"body")
    await Inbox(store).accept(sent, [one.destination, other.destination, without.destination])
    for queue in (one, without, other):
        await deliver(queue)
    names = ("laravel", "crm", "audit")
    assert [[each.event.id for each in await kept(store, name)] for name in names] == [[sent.id], [sent.id], []]
    assert [await bytes_of(store, name) > 4 for name in names] == [True, True, False]
    assert await store.commands(*(("HLEN", f"sl:{{{partition:02d}}}:refs") for partition in range(4))) == [0] * 4


async def test_a_result_that_is_settled_twice_is_kept_once(store: Store) -> None:
    queue = a_queue(store)
    await accept(queue, event("a"))
    leased = (await queue.poll([], 10)).leased
    done = [Settlement(one, "delivered", 0, "200 1") for one in leased]
    await queue.poll(done, 0)
    assert len((await queue.poll(done, 0)).refused) == 1
    assert len(await kept(store)) == 1
    assert (await queue.counts()).kept_bytes == await bytes_of(store)


async def test_it_is_sent_once_more_at_the_end_of_its_session_under_the_first_id(store: Store) -> None:
    queue = a_queue(store)
    first = event("a", b"0", ttl=60.0, coalesce_key="x")
    await accept(queue, first)
    await deliver(queue)
    await accept(queue, event("a", b"1", coalesce_key="x"))
    whole = await Kept(store, "laravel").whole(first.id)
    assert whole is not None
    again = once_more(whole, 1)
    assert (await accept(queue, again)).repeat is False
    assert (await accept(queue, again)).repeat is True
    assert (await accept(queue, once_more(whole, 2))).repeat is False
    assert [(told == first.id, body) for told, body in await deliver(queue)] == [
        (False, b"1"),
        (True, b"0"),
        (True, b"0"),
    ]
    assert sorted(one.bytes for one in await kept(store)) == [1, 1], "what was sent once more is not kept beside it"
    assert (again.ttl, again.coalesce_key) == (0.0, "")


async def test_the_senders_own_id_stays_what_receivers_are_told(store: Store) -> None:
    queue = a_queue(store)
    first = event("a", b"0", senders_id="msg_7")
    await accept(queue, first)
    assert await deliver(queue) == [("msg_7", b"0")]
    whole = await Kept(store, "laravel").whole(first.id)
    assert whole is not None
    await accept(queue, once_more(whole, 1))
    assert await deliver(queue) == [("msg_7", b"0")]


async def test_pages_have_all_of_them_in_the_order_of_delivery(store: Store) -> None:
    queue = a_queue(store, max_per_stream=50)
    sent: dict[str, list[str]] = {}
    for number in range(60):
        one = event(f"s{number % 3}", b"%d" % number)
        sent.setdefault(str(one.session), []).append(one.id)
        await accept(queue, one)
    await deliver(queue)  # many in one millisecond
    for size in (1, 7, 500):
        found: dict[str, list[str]] = {}
        for each in await kept(store, size=size):
            found.setdefault(str(each.event.session), []).append(each.event.id)
        assert found == sent


async def test_those_that_are_named_are_found_where_a_newer_one_took_an_older_ones_place(store: Store) -> None:
    queue = a_queue(store)
    await accept(queue, event("a", b"0", coalesce_key="x"))
    newer = event("a", b"1", coalesce_key="x")
    await accept(queue, newer)
    await deliver(queue)
    found = await Kept(store, "laravel").by_ids([newer.id, "evt_unknown"])
    assert [(one.event.id, one.bytes) for one in found] == [(newer.id, 1)]
    assert found == await kept(store)


async def test_they_go_when_they_are_too_old_or_nothing_is_to_be_kept_any_more(store: Store) -> None:
    queue = a_queue(store)
    for number in range(300):
        await accept(queue, event(f"s{number}"))
    await deliver(queue)
    await janitor.run_once(store, ["laravel"], Retention(bodies=60.0))
    assert len(await kept(store)) == 300
    await asyncio.sleep(0.05)
    await janitor.run_once(store, [], Retention(bodies=0.0))
    assert (await kept(store), await bytes_of(store), (await queue.counts()).kept_bytes) == ([], 0, 0)


async def test_of_more_bytes_than_may_be_kept_the_oldest_of_all_partitions_go_and_it_is_told(store: Store) -> None:
    queue = a_queue(store)
    for number in range(40):
        await accept(queue, event(f"s{number}", bytes(1000), id=f"evt_{number:02d}"))
        await deliver(queue)
    each = await bytes_of(store) // 40
    assert queue.has_kept
    await janitor.trim_kept(store, "laravel", Retention(bodies=60.0, bodies_bytes=10 * each + each // 2))
    assert sorted(one.event.id for one in await kept(store)) == [f"evt_{number}" for number in range(30, 40)]
    counts = await queue.counts()
    assert counts.kept_bytes == await bytes_of(store)
    assert counts.lately["unkept"].times == 30


async def test_an_endpoint_that_is_gone_is_remembered_while_something_is_kept_for_it(store: Store) -> None:
    queue = a_queue(store, keep_history=False)
    await accept(queue, event("a"))
    await deliver(queue)
    await endpoints.forget_empty(store, "laravel")
    assert len(await kept(store)) == 1
    await asyncio.sleep(0.01)
    await janitor.run_once(store, [], Retention(bodies=0.001))
    (keys,) = await store.commands(("KEYS", "*:laravel:*"))
    assert keys == []


async def test_an_event_of_an_id_that_was_forgotten_takes_the_place_of_the_first(store: Store) -> None:
    queue = a_queue(store)
    for body in (b"one", b"twenty-two"):
        one: Event = event("a", body, id="evt_1", dedupe_window=0.001)
        await accept(queue, one)
        await deliver(queue)
        await asyncio.sleep(0.01)
    whole = await Kept(store, "laravel").whole("evt_1")
    assert whole is not None
    assert (whole.body, len(await kept(store))) == (b"twenty-two", 1)
    assert (await queue.counts()).kept_bytes == await bytes_of(store)
