from __future__ import annotations

import asyncio

import pytest

from relay.queue.codec import Delivery
from relay.queue.dead_letters import DeadLetters
from relay.queue.history import EventHistory, forget_older, history_of
from relay.queue.inbox import Inbox
from relay.queue.queue import Queue, Settlement
from sluice.store.client import Store
from tests.relay.making import accept, event

pytestmark = pytest.mark.anyio


def queue_of(store: Store, endpoint: str = "laravel", **more: object) -> Queue:
    known = {"lease": 30.0, "max_bytes": 10**7, "max_events": 100_000}
    return Queue(store, endpoint, **{**known, **more})  # type: ignore[arg-type]


async def lease(queue: Queue, settled: list[Settlement] | None = None) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll(settled or [], 100)).leased


async def known(store: Store, identity: str, *endpoints: str) -> EventHistory:
    history = await history_of(store, endpoints or ("laravel",), identity)
    assert history is not None
    return history


async def test_nothing_is_known_of_what_was_never_accepted(store: Store) -> None:
    assert await history_of(store, ["laravel"], "evt_none") is None


async def test_one_that_waits_behind_others_names_the_first(store: Store) -> None:
    queue = queue_of(store)
    given = [event(body=b"x" * 7) for _ in range(3)]
    for one in given:
        await accept(queue, one)
    history = await known(store, given[2].id)
    (here,) = history.endpoints
    assert (here.state, here.older, here.waits_for) == ("waiting", 2, given[0].id)
    assert history.event is not None
    assert (history.session, history.lane, history.event.type, len(history.event.body)) == (
        "s1",
        "normal",
        given[0].type,
        7,
    )
    first = (await known(store, given[0].id)).endpoints[0]
    assert (first.state, first.older, first.waits_for) == ("waiting", 0, None)


async def test_attempts_are_listed_with_what_came_of_them(store: Store) -> None:
    queue = queue_of(store)
    given = event()
    await accept(queue, given)
    (leased,) = await lease(queue)
    assert (await known(store, given.id)).endpoints[0].state == "leased"
    await queue.poll([Settlement(leased, "retry", 0, "500 12 answered 500")], 0)
    (leased,) = await lease(queue)
    await queue.poll([Settlement(leased, "return", 60_000, "- 3 connection refused\nby 127.0.0.1")], 0)
    history = await known(store, given.id)
    (here,) = history.endpoints
    assert (here.state, here.failed) == ("waiting", 1)
    assert [(a.status, a.ms, a.reason) for a in here.attempts] == [
        (500, 12.0, "answered 500"),
        (None, 3.0, "connection refused by 127.0.0.1"),
    ]
    assert here.due is not None
    assert 55 < here.due - history.now <= 60


async def test_a_delivered_event_is_found_with_its_attempts_and_then_forgotten(store: Store) -> None:
    queue = queue_of(store)
    given = event("a session")
    await accept(queue, given)
    (leased,) = await lease(queue)
    (leased,) = await lease(queue, [Settlement(leased, "retry", 0, "503 5 answered 503")])
    await queue.poll([Settlement(leased, "delivered", 0, "200 7")], 0)
    history = await known(store, given.id)
    (here,) = history.endpoints
    assert (history.event, history.session, here.state, here.failed) == (None, "a session", "delivered", 1)
    assert [(a.status, a.ms) for a in here.attempts] == [(503, 5.0), (200, 7.0)]
    assert abs(history.accepted_at - history.now) < 5
    await forget_older(store, "laravel", 60.0)
    assert await history_of(store, ["laravel"], given.id) is not None
    await forget_older(store, "laravel", -2.0)
    assert await history_of(store, ["laravel"], given.id) is None


async def test_it_is_found_among_thousands_that_left(store: Store) -> None:
    queue = queue_of(store)
    given = [event("s") for _ in range(3000)]
    for first in range(0, 3000, 500):
        await asyncio.gather(*(accept(queue, one) for one in given[first : first + 500]))
    settled: list[Settlement] = []
    whole = queue_of(store, max_per_stream=500)
    while True:
        whole.look_everywhere()
        leased = (await whole.poll(settled, 2000)).leased
        if not leased:
            break
        settled = [Settlement(delivery, "delivered", 0, "200 1") for delivery in leased]
    assert (await known(store, given[0].id)).endpoints[0].state == "delivered"
    assert (await known(store, given[-1].id)).endpoints[0].state == "delivered"


async def test_nothing_is_kept_of_delivered_events_where_nobody_wants_it(store: Store) -> None:
    queue = queue_of(store, keep_history=False)
    given = event()
    await accept(queue, given)
    await lease(queue, [Settlement((await lease(queue))[0], "delivered")])
    assert await history_of(store, ["laravel"], given.id) is None


async def test_of_several_endpoints_each_has_its_own_history(store: Store) -> None:
    one, other = queue_of(store, "one"), queue_of(store, "other", in_order=False)
    given = event()
    await Inbox(store).accept(given, [one.destination, other.destination])
    await one.poll([Settlement((await lease(one))[0], "delivered", 0, "200 1")], 0)
    await other.poll([Settlement((await lease(other))[0], "dead", "answered 422: no", "422 1 answered 422: no")], 0)
    history = await known(store, given.id, "one", "other", "third")
    assert [(here.endpoint, here.state, here.reason) for here in history.endpoints] == [
        ("one", "delivered", ""),
        ("other", "dead", "answered 422: no"),
    ]
    assert history.endpoints[1].attempts[0].status == 422
    letters = [letter async for letter in DeadLetters(store, "other").all()]
    await DeadLetters(store, "other").drop(letters)
    history = await known(store, given.id, "one", "other")
    assert {here.endpoint: here.state for here in history.endpoints} == {"one": "delivered", "other": "dropped"}


async def test_what_was_replaced_names_what_took_its_place_and_that_is_found_there(store: Store) -> None:
    queue = queue_of(store)
    old, between, new = event(coalesce_key="typing"), event(), event(coalesce_key="typing")
    for given in (old, between, new):
        await accept(queue, given)
    replaced = (await known(store, old.id)).endpoints[0]
    assert (replaced.state, replaced.reason) == ("replaced", new.id)
    assert (await known(store, new.id)).endpoints[0].older == 0
    assert (await known(store, between.id)).endpoints[0].waits_for == new.id


async def test_what_went_stale_says_so(store: Store) -> None:
    queue = queue_of(store)
    given = event(ttl=0.001)
    await accept(queue, given)
    await asyncio.sleep(0.01)
    assert await lease(queue) == []
    assert (await known(store, given.id)).endpoints[0].state == "expired"
