"""`order` is edited while events wait: from then on the order holds for all of them."""

from __future__ import annotations

import asyncio

import pytest

from relay.queue import order
from relay.queue.codec import Delivery
from relay.queue.dead_letters import DeadLetters
from relay.queue.inbox import Inbox
from relay.queue.moving import Mover
from relay.queue.queue import Queue, Settlement
from relay.queue.suspects import SUSPECT
from sluice.store.client import Store
from tests.relay.making import event
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def inbox(store: Store) -> Inbox:
    return Inbox(store)


@pytest.fixture
async def queue(store: Store) -> Queue:
    """Of an endpoint without order, as a relay has told the store."""
    await order.keep(store, "laravel", in_order=False)
    return queue_of(store)


def queue_of(store: Store, name: str = "laravel", **more: object) -> Queue:
    known = {"lease": 30.0, "max_bytes": 10**8, "max_events": 10**5, "in_order": False}
    return Queue(store, name, **{**known, **more})  # type: ignore[arg-type]


async def accept(inbox: Inbox, queue: Queue, *bodies: bytes, session: str | None = "s1", **more: object) -> None:
    for body in bodies:
        await inbox.accept(event(session, body, **more), [queue.destination])


async def lease(queue: Queue) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll([], 100)).leased


async def deliver(queue: Queue) -> list[bytes]:
    """What is sent, in its order; each delivery is settled before the next ones are leased."""
    bodies: list[bytes] = []
    while leased := await lease(queue):
        bodies += [one.body for one in leased]
        await queue.poll([Settlement(one, "delivered") for one in leased], 0)
    return bodies


def numbers(count: int) -> list[bytes]:
    return [b"%d" % i for i in range(count)]


async def test_the_order_holds_for_what_waits_when_it_is_switched_on(store: Store, inbox: Inbox, queue: Queue) -> None:
    await accept(inbox, queue, *numbers(500))
    await order.keep(store, "laravel", in_order=True)
    await accept(inbox, queue, b"500")  # of a gateway that has not seen the edit yet
    assert await deliver(queue) == numbers(501)
    assert (await queue.counts()).bytes == 0


async def test_each_session_has_its_own_order_and_who_has_none_waits_for_nobody(
    store: Store, inbox: Inbox, queue: Queue
) -> None:
    await accept(inbox, queue, b"a1", session="a")
    await accept(inbox, queue, b"b1", session="b")
    await accept(inbox, queue, b"x", b"y", session=None)
    await accept(inbox, queue, b"a2", session="a")
    await order.keep(store, "laravel", in_order=True)
    assert sorted(one.body for one in await lease(queue)) == [b"a1", b"b1", b"x", b"y"]


async def test_nothing_is_leased_while_something_of_the_other_form_is_in_flight(
    store: Store, inbox: Inbox, queue: Queue
) -> None:
    await accept(inbox, queue, b"0", b"1")
    first, second = sorted(await lease(queue), key=lambda one: one.body)
    await accept(inbox, queue, b"2")
    await order.keep(store, "laravel", in_order=True)
    await accept(inbox, queue, b"3")
    assert await lease(queue) == []
    assert queue.next_due() > 0.1
    assert (await queue.counts()).sorting
    await queue.poll([Settlement(second, "delivered"), Settlement(first, "retry", 0)], 0)
    assert await lease(queue) == []
    await order.go_on(store, "laravel")
    assert not (await queue.counts()).sorting
    assert await deliver(queue) == [b"0", b"2", b"3"]


async def test_one_whose_holder_died_is_sorted_when_its_lease_is_over(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store, lease=0.1)
    await order.keep(store, "laravel", in_order=False)
    await accept(inbox, queue, b"0")
    assert len(await lease(queue)) == 1
    await accept(inbox, queue, b"1")
    await order.keep(store, "laravel", in_order=True)

    async def sorted_out() -> bool:
        await order.go_on(store, "laravel")
        return not (await queue.counts()).sorting

    await until(sorted_out)
    (again,) = await lease(queue)
    assert (again.body, again.crash_count) == (b"0", 1)


async def test_a_suspect_whose_post_was_not_begun_is_no_more_than_a_suspect_afterwards(
    store: Store, inbox: Inbox
) -> None:
    queue = queue_of(store, lease=0.05)
    await order.keep(store, "laravel", in_order=False)
    await accept(inbox, queue, b"0")
    counts: list[int] = []

    async def leased_again(times: int) -> bool:
        await order.go_on(store, "laravel")
        counts.extend(one.crash_count for one in await lease(queue))
        return len(counts) >= times

    await until(lambda: leased_again(SUSPECT + 1))
    await order.keep(store, "laravel", in_order=True)
    await until(lambda: leased_again(SUSPECT + 4))
    assert counts == [*range(SUSPECT), *[SUSPECT] * 4]
    assert (await queue.counts()).dead == 0


async def test_a_backoff_and_failed_attempts_go_along(store: Store, inbox: Inbox, queue: Queue) -> None:
    await accept(inbox, queue, b"0", b"1")
    one, other = await lease(queue)
    failed, delivered = (one, other) if one.body == b"0" else (other, one)
    await queue.poll([Settlement(failed, "retry", 300, "500 1"), Settlement(delivered, "return", 0)], 0)
    await order.keep(store, "laravel", in_order=True)
    assert await lease(queue) == []
    await asyncio.sleep(0.35)
    (leased,) = await lease(queue)
    assert (leased.body, leased.attempt) == (b"0", 2)


async def test_what_replaces_a_waiting_event_still_finds_it(store: Store, inbox: Inbox, queue: Queue) -> None:
    await accept(inbox, queue, b"old", coalesce_key="typing")
    await accept(inbox, queue, b"next")
    await order.keep(store, "laravel", in_order=True)
    await accept(inbox, queue, b"new", coalesce_key="typing")
    assert await deliver(queue) == [b"new", b"next"]


async def test_a_dead_letter_is_replayed_into_its_session(store: Store, inbox: Inbox, queue: Queue) -> None:
    await accept(inbox, queue, b"0")
    (leased,) = await lease(queue)
    await queue.poll([Settlement(leased, "dead", "answered 422", "422 1")], 0)
    await accept(inbox, queue, b"1")
    await order.keep(store, "laravel", in_order=True)
    letters = DeadLetters(store, "laravel")
    await letters.replay([letter async for letter in letters.all()])
    assert [one.body for one in await lease(queue)] == [b"0"]


async def test_it_can_be_switched_off_and_on_again(store: Store, inbox: Inbox, queue: Queue) -> None:
    for in_order in (True, False, True):
        await order.keep(store, "laravel", in_order=in_order)
        await accept(inbox, queue, *numbers(3))
    assert await deliver(queue) == numbers(3) * 3


async def test_what_waits_in_order_goes_on_in_order_when_it_is_switched_off(
    store: Store, inbox: Inbox, queue: Queue
) -> None:
    await order.keep(store, "laravel", in_order=True)
    await accept(inbox, queue, b"0", b"1")
    await order.keep(store, "laravel", in_order=False)
    await accept(inbox, queue, b"2", b"3")
    assert sorted(one.body for one in await lease(queue)) == [b"0", b"2", b"3"]


async def test_what_comes_from_an_endpoint_without_order_is_sorted(store: Store, inbox: Inbox, queue: Queue) -> None:
    await order.keep(store, "new", in_order=True)
    await accept(inbox, queue, b"0", b"1")
    new = queue_of(store, "new", in_order=True)
    assert (await Mover(store, "laravel", "new").move(100)).gone == 2
    await accept(inbox, new, b"2")
    assert await lease(new) == []
    await order.go_on(store, "new")
    assert await deliver(new) == numbers(3)


async def test_several_relays_may_sort_at_once_and_again(store: Store, inbox: Inbox, queue: Queue) -> None:
    await accept(inbox, queue, *numbers(450))
    await asyncio.gather(*(order.keep(store, "laravel", in_order=True) for _ in range(3)))
    await order.keep(store, "laravel", in_order=True)
    await order.go_on(store, "laravel")
    assert await deliver(queue) == numbers(450)


async def test_a_store_that_nobody_has_told_the_order_is_sorted_once(store: Store, inbox: Inbox) -> None:
    queue = queue_of(store)
    await accept(inbox, queue, *numbers(5))
    await order.keep(store, "laravel", in_order=True)
    before = store.trips
    await order.keep(store, "laravel", in_order=True)
    await order.go_on(store, "laravel")
    assert store.trips - before == 2
    assert await deliver(queue) == numbers(5)
