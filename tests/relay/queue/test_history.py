from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.circuit import CircuitStatus
from relay.queue.codec import Delivery
from relay.queue.dead_letters import DeadLetters
from relay.queue.history import EndpointHistory, EventHistory, forget_older, history_of
from relay.queue.history_codec import Attempt
from relay.queue.inbox import Inbox
from relay.queue.queue import Queue, Settlement
from relay.why import why
from sluice.store.client import Store
from tests.relay.making import event

pytestmark = pytest.mark.anyio

CLOSED = CircuitStatus("closed", 0.0, "")


def queue_of(store: Store, endpoint: str = "laravel", **more: object) -> Queue:
    known = {"lease": 30.0, "max_bytes": 10**7, "max_events": 100_000}
    return Queue(store, endpoint, **{**known, **more})  # type: ignore[arg-type]


async def lease(queue: Queue, settled: list[Settlement] | None = None) -> list[Delivery]:
    queue.look_everywhere()
    return (await queue.poll(settled or [], 100)).leased


async def told(store: Store, identity: str, *endpoints: str) -> EventHistory:
    story = await history_of(store, endpoints or ("laravel",), identity)
    assert story is not None
    return story


async def test_nothing_is_known_of_what_was_never_accepted(store: Store) -> None:
    assert await history_of(store, ["laravel"], "evt_none") is None


async def test_one_that_waits_behind_others_names_the_first(store: Store) -> None:
    queue = queue_of(store)
    given = [event(body=b"x" * 7) for _ in range(3)]
    for one in given:
        await queue.accept(one)
    story = await told(store, given[2].id)
    (part,) = story.endpoints
    assert (part.state, part.ahead, part.behind) == ("waiting", 2, given[0].id)
    assert story.event is not None
    assert (story.session, story.lane, story.event.type, len(story.event.body)) == ("s1", "normal", given[0].type, 7)
    first = (await told(store, given[0].id)).endpoints[0]
    assert (first.state, first.ahead, first.behind) == ("waiting", 0, None)


async def test_attempts_are_told_with_what_came_of_them(store: Store) -> None:
    queue = queue_of(store)
    given = event()
    await queue.accept(given)
    (leased,) = await lease(queue)
    assert (await told(store, given.id)).endpoints[0].state == "leased"
    await queue.poll([Settlement(leased, "retry", 0, "500 12 answered 500")], 0)
    (leased,) = await lease(queue)
    await queue.poll([Settlement(leased, "return", 60_000, "- 3 connection refused\nby 127.0.0.1")], 0)
    story = await told(store, given.id)
    (part,) = story.endpoints
    assert (part.state, part.failed) == ("waiting", 1)
    assert [(a.status, a.ms, a.reason) for a in part.attempts] == [
        (500, 12.0, "answered 500"),
        (None, 3.0, "connection refused by 127.0.0.1"),
    ]
    assert part.due is not None
    assert 55 < part.due - story.now <= 60


async def test_a_delivered_event_is_found_with_its_attempts_and_then_forgotten(store: Store) -> None:
    queue = queue_of(store)
    given = event("a session")
    await queue.accept(given)
    (leased,) = await lease(queue)
    (leased,) = await lease(queue, [Settlement(leased, "retry", 0, "503 5 answered 503")])
    await queue.poll([Settlement(leased, "delivered", 0, "200 7")], 0)
    story = await told(store, given.id)
    (part,) = story.endpoints
    assert (story.event, story.session, part.state, part.failed) == (None, "a session", "delivered", 1)
    assert [(a.status, a.ms) for a in part.attempts] == [(503, 5.0), (200, 7.0)]
    assert abs(story.accepted_at - story.now) < 5
    await forget_older(store, "laravel", 60.0)
    assert await history_of(store, ["laravel"], given.id) is not None
    await forget_older(store, "laravel", -2.0)
    assert await history_of(store, ["laravel"], given.id) is None


async def test_it_is_found_among_thousands_that_left(store: Store) -> None:
    queue = queue_of(store)
    given = [event("s") for _ in range(3000)]
    for first in range(0, 3000, 500):
        await asyncio.gather(*(queue.accept(one) for one in given[first : first + 500]))
    settled: list[Settlement] = []
    whole = queue_of(store, max_per_stream=500)
    while True:
        whole.look_everywhere()
        leased = (await whole.poll(settled, 2000)).leased
        if not leased:
            break
        settled = [Settlement(delivery, "delivered", 0, "200 1") for delivery in leased]
    assert (await told(store, given[0].id)).endpoints[0].state == "delivered"
    assert (await told(store, given[-1].id)).endpoints[0].state == "delivered"


async def test_nothing_is_kept_of_delivered_events_where_nobody_wants_it(store: Store) -> None:
    queue = queue_of(store, keep_history=False)
    given = event()
    await queue.accept(given)
    await lease(queue, [Settlement((await lease(queue))[0], "delivered")])
    assert await history_of(store, ["laravel"], given.id) is None


async def test_of_several_endpoints_each_tells_its_own(store: Store) -> None:
    one, other = queue_of(store, "one"), queue_of(store, "other", in_order=False)
    given = event()
    await Inbox(store).accept(given, [one.destination, other.destination])
    await one.poll([Settlement((await lease(one))[0], "delivered", 0, "200 1")], 0)
    await other.poll([Settlement((await lease(other))[0], "dead", "answered 422: no", "422 1 answered 422: no")], 0)
    story = await told(store, given.id, "one", "other", "third")
    assert [(part.endpoint, part.state, part.reason) for part in story.endpoints] == [
        ("one", "delivered", ""),
        ("other", "dead", "answered 422: no"),
    ]
    assert story.endpoints[1].attempts[0].status == 422
    letters = [letter async for letter in DeadLetters(store, "other").all()]
    await DeadLetters(store, "other").drop(letters)
    story = await told(store, given.id, "one", "other")
    assert {part.endpoint: part.state for part in story.endpoints} == {"one": "delivered", "other": "dropped"}


async def test_what_was_replaced_names_what_took_its_place_and_that_is_found_there(store: Store) -> None:
    queue = queue_of(store)
    old, between, new = event(coalesce_key="typing"), event(), event(coalesce_key="typing")
    for given in (old, between, new):
        await queue.accept(given)
    replaced = (await told(store, old.id)).endpoints[0]
    assert (replaced.state, replaced.reason) == ("replaced", new.id)
    assert (await told(store, new.id)).endpoints[0].ahead == 0
    assert (await told(store, between.id)).endpoints[0].behind == new.id


async def test_what_went_stale_says_so(store: Store) -> None:
    queue = queue_of(store)
    given = event(ttl=0.001)
    await queue.accept(given)
    await asyncio.sleep(0.01)
    assert await lease(queue) == []
    assert (await told(store, given.id)).endpoints[0].state == "expired"


# --- in words

STORY = EventHistory("evt_1", "s", "normal", 1000.0, 1100.0, (), None)
WAITING = EndpointHistory("laravel", "waiting", 0, (), due=1000.0)
FAILED = replace(WAITING, failed=2, due=1112.0, attempts=(Attempt(1099.0, 500, 3.0, "answered 500\nmore"),))


@pytest.mark.parametrize(
    ("part", "circuit", "pace", "relays", "words"),
    [
        (
            replace(WAITING, state="delivered", at=1000.25, failed=1),
            CLOSED,
            None,
            1,
            "delivered 250ms after it was accepted, by attempt 2",
        ),
        (
            replace(WAITING, state="dead", reason="answered 422: no"),
            CLOSED,
            None,
            1,
            "a dead letter: answered 422: no; `sluice dead replay evt_1` sends it again",
        ),
        (replace(WAITING, state="leased", failed=1), CLOSED, None, 1, "being delivered right now, attempt 2"),
        (FAILED, CLOSED, None, 1, "waits 12.0s for attempt 3 of 12: answered 500"),
        (
            FAILED,
            CircuitStatus("open", 4.0, "answered 429"),
            None,
            1,
            "the circuit of laravel is open for 4.0s more: answered 429",
        ),
        (
            WAITING,
            CircuitStatus("open", 0.0, "moving house", held=True),
            None,
            1,
            "a person holds the circuit of laravel open: moving house",
        ),
        (
            replace(WAITING, ahead=3, behind="evt_0"),
            CLOSED,
            None,
            1,
            "waits behind 3 older of its session, first evt_0",
        ),
        (
            replace(WAITING, ahead=3, behind="evt_0", due=1107.0),
            CLOSED,
            None,
            1,
            "waits behind 3 older of its session, first evt_0, which goes on in 7.0s at the latest",
        ),
        (replace(WAITING, due=1105.0), CLOSED, None, 1, "held back for 5.0s more by a limit with over: queue"),
        (WAITING, CLOSED, None, 0, "it is due, but no relay is running"),
        (WAITING, CLOSED, 0.06, 1, "it is due, and waits for the pace of laravel: one every 60ms"),
        (WAITING, CLOSED, None, 1, "it is due, and is sent next"),
        (
            WAITING,
            CircuitStatus("half-open", 0.0, "answered 500"),
            None,
            1,
            "the circuit of laravel is half-open: it waits for a probe to succeed",
        ),
    ],
)
def test_why_it_is_not_there_yet(
    part: EndpointHistory, circuit: CircuitStatus, pace: float | None, relays: int, words: str
) -> None:
    assert why(part, STORY, circuit, pace=pace, attempts=12, relays=relays) == words
