from __future__ import annotations

import asyncio

import pytest

from relay.queue.codec import DelayedBy, Delivery
from relay.queue.dead_letters import DeadLetters
from relay.queue.history import history_of
from relay.queue.inbox import Inbox
from relay.queue.moving import Moved, Mover
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import accept, event

pytestmark = pytest.mark.anyio


@pytest.fixture
def old(store: Store) -> Queue:
    return a_queue(store, "old")


@pytest.fixture
def new(store: Store) -> Queue:
    return a_queue(store, "new")


def a_queue(store: Store, name: str, **more: object) -> Queue:
    return Queue(store, name, **{"lease": 5.0, "max_bytes": 10**7, "max_events": 10**5, **more})  # type: ignore[arg-type]


async def lease(queue: Queue, want: int = 500) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll([], want)).leased


async def delivered(queue: Queue) -> list[str]:
    """Delivers all that waits. The bodies, in the order in which they were leased."""
    bodies = []
    while leased := await lease(queue):
        bodies += [one.body.decode() for one in leased]
        await queue.poll([Settlement(one, "delivered", 0, "200 1") for one in leased], 0)
    return bodies


async def move(store: Store, limit: int = 1000) -> Moved:
    return await Mover(store, "old", "new").move(limit)


async def test_what_waited_goes_before_what_was_accepted_later(store: Store, old: Queue, new: Queue) -> None:
    for number in range(3):
        await accept(old, event("a", b"%d" % number))
    for number in range(3, 5):
        await accept(new, event("a", b"%d" % number))
    assert await move(store) == Moved(3, 0, 0)
    assert await delivered(new) == ["0", "1", "2", "3", "4"]
    assert (await old.counts()).waiting == 0


async def test_it_is_moved_in_steps_and_whoever_is_interrupted_begins_again(
    store: Store, old: Queue, new: Queue
) -> None:
    for number in range(1000):
        await accept(old, event(f"s{number % 7}", b"%04d" % number))
    gone, steps = 0, 0
    while (await old.counts()).waiting:
        gone += (await move(store, 250)).gone
        steps += 1
    assert (gone, (await new.counts()).waiting) == (1000, 1000)
    assert 2 <= steps <= 10
    bodies = await delivered(new)
    for session in range(7):
        assert [one for one in map(int, bodies) if one % 7 == session] == list(range(session, 1000, 7))


async def test_a_session_is_not_gone_on_with_until_all_of_it_has_come(store: Store, old: Queue, new: Queue) -> None:
    for number in range(450):
        await accept(old, event("a", b"%d" % number))
    await accept(new, event("a", b"younger"))
    await move(store, 200)
    assert await lease(new) == []
    await move(store)
    assert await delivered(new) == [*map(str, range(450)), "younger"]


async def test_dead_letters_come_along_with_their_reasons_and_attempts(store: Store, old: Queue, new: Queue) -> None:
    given = event()
    await accept(old, given)
    (leased,) = await lease(old)
    await old.poll([Settlement(leased, "dead", "answered 422: no", "422 7 answered 422: no")], 0)
    (before,) = [letter async for letter in DeadLetters(store, "old").all()]
    assert await move(store) == Moved(1, 0, 0)
    (after,) = [letter async for letter in DeadLetters(store, "new").all()]
    assert (after.event.id, after.reason, after.died_at) == (given.id, "answered 422: no", before.died_at)
    history = await history_of(store, ["old", "new"], given.id)
    assert history is not None
    assert [(part.endpoint, part.state, len(part.attempts)) for part in history.endpoints] == [("new", "dead", 1)]
    assert ((await old.counts()).dead, (await old.counts()).bytes) == (0, 0)


async def test_an_event_that_waits_at_both_is_there_once(store: Store, old: Queue, new: Queue) -> None:
    await Inbox(store).accept(event("a", b"both"), [old.destination, new.destination])
    assert await move(store) == Moved(1, 1, 0)
    assert await delivered(new) == ["both"]
    assert await store.commands(("HLEN", "sl:{00}:events"), ("HLEN", "sl:{00}:refs")) == [0, 0]


async def test_an_event_that_the_other_keeps_no_order_for_is_there_once(store: Store, old: Queue) -> None:
    new = a_queue(store, "new", in_order=False)
    for lane in ("urgent", "normal"):
        await Inbox(store).accept(event("a", b"both", lane), [old.destination, new.destination])
    assert await move(store) == Moved(2, 2, 0)
    assert await delivered(new) == ["both", "both"]


async def test_an_event_that_the_other_has_delivered_is_not_sent_to_it_again(
    store: Store, old: Queue, new: Queue
) -> None:
    await Inbox(store).accept(event("a", b"both"), [old.destination, new.destination])
    assert await delivered(new) == ["both"]
    assert await move(store) == Moved(1, 1, 0)
    assert await delivered(new) == []


async def test_what_is_being_delivered_is_left_and_moved_when_its_lease_is_over(
    store: Store, old: Queue, new: Queue
) -> None:
    short = a_queue(store, "old", lease=0.05)
    for number in range(2):
        await accept(short, event("a", b"%d" % number))
    (leased,) = await lease(short)
    assert await move(store) == Moved(1, 0, 1), "the one behind it goes"
    await asyncio.sleep(0.2)
    assert await move(store) == Moved(1, 0, 0)
    late = await short.poll([Settlement(leased, "delivered", 0, "200 1")], 0)
    assert late.refused == [leased], "whoever held it comes too late"
    assert [one.body for one in await lease(new)] == [b"0"]


async def test_what_a_limit_delays_is_still_known_as_delayed_by_it(store: Store, old: Queue, new: Queue) -> None:
    for number in range(3):
        delayed = event("a", id=f"evt_{number}", delay=60.0 * (number + 1), delayed_by=DelayedBy("send", 60.0, 1))
        await accept(old, delayed)
    assert await move(store) == Moved(3, 0, 0)
    for number in range(3):
        history = await history_of(store, ["old", "new"], f"evt_{number}")
        assert history is not None
        assert [(one.endpoint, one.state, one.delayed_by) for one in history.endpoints] == [("new", "waiting", "send")]
    (keys,) = await store.commands(("KEYS", "*:old:delayed"))
    assert keys == []
