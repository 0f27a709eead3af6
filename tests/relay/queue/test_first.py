"""What is not urgent of a session waits for what goes first in it: the event by which receivers know the session."""

from __future__ import annotations

import asyncio
import random

import pytest

from relay.circuit import CircuitStatus
from relay.queue.codec import Delivery, Event, GoesFirst, Lane
from relay.queue.errors import BacklogFull
from relay.queue.history import history_of
from relay.queue.inbox import Inbox
from relay.queue.layout import PARTITIONS, own_key
from relay.queue.queue import Disposition, Queue, Settlement
from relay.queue.waiting import Waiting
from relay.why import why
from sluice.store.client import Store
from tests.relay.making import event
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Session:
    """The queue of an endpoint, and what comes for session s1."""

    def __init__(self, store: Store, within: float = 30.0, **more: object) -> None:
        known = {"lease": 30.0, "max_bytes": 10**6, "max_events": 1000}
        self.queue = Queue(store, "laravel", **{**known, **more})  # type: ignore[arg-type]
        self._inbox = Inbox(store)
        self._within = within

    async def accept(self, type_: str, lane: Lane = "urgent", session: str = "s1", **more: object) -> Event:
        which = {"ready": GoesFirst("first", self._within), "announced": GoesFirst("after", self._within)}.get(type_)
        given = event(session, type_.encode(), lane, type=type_, goes_first=which, **more)
        await self._inbox.accept(given, [self.queue.destination])
        return given

    async def message(self, name: str = "message", session: str = "s1") -> Event:
        return await self.accept(name, "normal", session)

    async def leased(self, *settled: Settlement) -> list[Delivery]:
        self.queue.look_everywhere()
        return (await self.queue.poll(settled, 100)).leased

    async def sent(self) -> list[str]:
        """All that can be sent now, in the order in which it can."""
        types: list[str] = []
        leased = await self.leased()
        while leased:
            types += [one.type for one in leased]
            leased = await self.leased(*(Settlement(one, "delivered") for one in leased))
        return types


async def test_messages_wait_from_the_announcement_until_what_goes_first_was_delivered(store: Store) -> None:
    session = Session(store)
    await session.accept("announced")
    await session.message("first")
    await session.accept("typing", "bulk")
    await session.message("another's", "s2")
    assert sorted(await session.sent()) == ["announced", "another's"]
    await session.accept("ready")
    await session.message("second")
    (ready,) = await session.leased()
    assert ready.type == "ready"
    assert await session.leased() == [], "it is on its way"
    following = await session.leased(Settlement(ready, "delivered"))
    assert sorted(one.type for one in following) == ["first", "typing"], "at once"
    then = await session.leased(*(Settlement(one, "delivered") for one in following))
    assert [one.type for one in then] == ["second"]


async def test_they_wait_for_it_without_an_announcement_too(store: Store) -> None:
    session = Session(store)
    await session.message()
    await session.accept("ready")
    assert await session.sent() == ["ready", "message"]


async def test_what_came_before_the_announcement_waits_as_well_if_it_is_not_on_its_way(store: Store) -> None:
    session = Session(store)
    await session.message("on its way")
    (on_its_way,) = await session.leased()
    await session.message("behind it")
    await session.accept("announced")
    (announced,) = await session.leased(Settlement(on_its_way, "delivered"))
    assert announced.type == "announced"


async def test_after_its_time_they_go_on_without_it(store: Store) -> None:
    session = Session(store, within=0.3)
    await session.accept("announced")
    await session.message()
    assert await session.sent() == ["announced"]
    assert session.queue.next_due() <= 0.3

    async def goes_on() -> bool:
        return await session.sent() == ["message"]

    await until(goes_on)


async def test_an_outage_does_not_use_up_its_time_but_failing_on_its_own_does(store: Store) -> None:
    session = Session(store, within=0.1)
    await session.accept("ready")
    await session.message()
    await asyncio.sleep(0.2)
    (ready,) = await session.leased()
    assert ready.type == "ready", "nobody has tried it"
    assert await session.leased(Settlement(ready, "unspent", 0, "500 1 answered 500"))
    await asyncio.sleep(0.3)
    assert await session.leased() == [], "nobody got through"


@pytest.mark.parametrize(
    ("disposition", "goes"), [("retry", True), ("unspent", False), ("dead", True), ("superseded", True)]
)
async def test_they_go_on_when_it_is_given_up_or_keeps_failing_alone(
    store: Store, disposition: Disposition, goes: bool
) -> None:
    session = Session(store, within=0.1)
    await session.accept("ready")
    await session.message()
    (ready,) = await session.leased()
    argument = "answered 422" if disposition == "dead" else 60_000
    at_once = await session.leased(Settlement(ready, disposition, argument, "500 1 answered 500"))
    await asyncio.sleep(0.4)
    assert [*(one.type for one in at_once), *await session.sent()] == (["message"] if goes else [])


async def test_they_go_on_when_a_person_drops_it(store: Store) -> None:
    session = Session(store)
    await session.accept("ready", delay=60.0)
    await session.message()
    assert await session.sent() == []
    waiting = Waiting(store, "laravel")
    places = [place async for page in waiting.places(None, "s1", 10) for place in page if place.entry_id[:1] == b"u"]
    await waiting.remove(places, "drop")

    async def goes_on() -> bool:
        return await session.sent() == ["message"]

    await until(goes_on)


async def test_a_late_announcement_of_what_has_come_already_is_superseded_and_holds_nothing_back(store: Store) -> None:
    """Its receiver would take it for news: Laravel loses what comes for a session that is only authenticated."""
    session = Session(store)
    ready = await session.accept("ready")
    assert await session.sent() == ["ready"]
    late = await session.accept("announced")
    assert await session.accept("announced", id=late.id) == late, "a repeat"
    await session.message()
    assert await session.sent() == ["message"]
    counts = await session.queue.counts()
    assert (counts.superseded, counts.waiting, counts.bytes) == (1, 0, 0)
    history = await history_of(store, ["laravel"], late.id)
    assert history is not None
    assert [(one.state, one.reason) for one in history.endpoints] == [("superseded", ready.id)]


async def test_what_is_late_for_one_endpoint_is_sent_to_another_that_has_not_heard_of_the_login(store: Store) -> None:
    session, other = Session(store), Queue(store, "crm", lease=30.0, max_bytes=10**6, max_events=1000)
    await session.accept("ready")
    given = event("s1", b"announced", "urgent", type="announced", goes_first=GoesFirst("after", 30.0))
    await Inbox(store).accept(given, [session.queue.destination, other.destination])
    assert await session.sent() == ["ready"]
    other.look_everywhere()
    (leased,) = (await other.poll([], 10)).leased
    assert leased.type == "announced"
    await other.poll([Settlement(leased, "delivered")], 0)
    assert (await other.counts()).bytes == 0


async def test_what_is_late_and_refused_for_want_of_room_elsewhere_is_superseded_once(store: Store) -> None:
    session, full = Session(store), Queue(store, "crm", lease=30.0, max_bytes=10**6, max_events=1)
    await Inbox(store).accept(event("s1", b"before"), [full.destination])
    await session.accept("ready")
    given = event("s1", b"announced", "urgent", type="announced", goes_first=GoesFirst("after", 30.0))
    for _ in range(2):
        with pytest.raises(BacklogFull):
            await Inbox(store).accept(given, [session.queue.destination, full.destination])
    full.look_everywhere()
    (before,) = (await full.poll([], 10)).leased
    await full.poll([Settlement(before, "delivered")], 0)
    await Inbox(store).accept(given, [session.queue.destination, full.destination])
    counts = await session.queue.counts()
    assert (counts.accepted, counts.superseded, (await full.counts()).waiting) == (2, 1, 1)


async def test_a_session_that_is_announced_anew_waits_again(store: Store) -> None:
    session = Session(store)
    await session.accept("ready")
    assert await session.sent() == ["ready"]
    await asyncio.sleep(2.1)  # as long as an announcement may be late
    await session.accept("announced")
    await session.message()
    assert await session.sent() == ["announced"]
    await session.accept("ready")
    assert await session.sent() == ["ready", "message"]


async def test_a_newer_one_takes_the_place_of_the_one_that_they_wait_for(store: Store) -> None:
    session = Session(store)
    await session.accept("ready", coalesce_key="ready")
    await session.accept("ready", coalesce_key="ready")
    await session.message()
    (ready,) = await session.leased()
    assert await session.leased() == []
    assert [one.type for one in await session.leased(Settlement(ready, "delivered"))] == ["message"]


async def test_without_order_nothing_waits(store: Store) -> None:
    session = Session(store, in_order=False)
    await session.accept("announced")
    await session.message()
    assert sorted(await session.sent()) == ["announced", "message"]


async def test_an_endpoint_that_is_sent_batches_holds_to_it(store: Store) -> None:
    session = Session(store, max_per_stream=10)
    await session.accept("announced")
    await session.accept("ready")
    await session.message("first")
    await session.message("second")
    leased = await session.leased()
    assert [one.type for one in leased] == ["announced", "ready"]
    following = await session.leased(*(Settlement(one, "delivered") for one in leased))
    assert [one.type for one in following] == ["first", "second"]


async def test_a_holder_that_dies_with_it_lets_nothing_overtake_it(store: Store) -> None:
    session = Session(store, lease=0.2)
    await session.accept("ready")
    await session.message()
    (first,) = await session.leased()
    assert first.type == "ready"
    await asyncio.sleep(0.3)
    (again,) = await session.leased()
    assert (again.type, again.crash_count) == ("ready", 1)
    assert [one.type for one in await session.leased(Settlement(again, "delivered"))] == ["message"]


async def test_who_waits_for_it_is_told_so(store: Store) -> None:
    session = Session(store)
    await session.accept("announced")
    message = await session.message()
    await session.sent()
    first = "for what goes first in its session (relay.events, first)"
    assert await why_it_waits(store, message) == f"waits 30.0s at most {first}"
    ready = await session.accept("ready", delay=60.0)
    await asyncio.sleep(0.01)
    await session.leased()
    assert await why_it_waits(store, message) == f"waits until {ready.id} is delivered {first}"


async def why_it_waits(store: Store, given: Event) -> str:
    history = await history_of(store, ["laravel"], given.id)
    assert history is not None
    circuit = CircuitStatus("closed", 0.0, "")
    text = why(history.endpoints[0], history, circuit, pace=None, attempts=3, relays=1)
    return text.replace("29.9s", "30.0s")


async def test_in_any_order_no_message_that_came_after_it_is_sent_before_it_is_settled(store: Store) -> None:
    seed = random.randrange(10**6)
    choose, session = random.Random(seed), Session(store)
    waiting_for: dict[str, set[str]] = {}
    """By message: what came before it and goes first in its session, and is not settled yet."""
    open_: dict[str, set[str]] = {"s1": set(), "s2": set()}
    held: list[Delivery] = []

    def note(leased: list[Delivery]) -> None:
        held.extend(leased)
        for one in leased:
            assert not waiting_for.get(one.id), f"seed {seed}: {one.type} of {one.session} was leased before {open_}"

    for _ in range(250):
        what = choose.choice(["message", "message", "ready", "announced", "lease", "lease", "settle", "settle"])
        name = choose.choice(["s1", "s2"])
        if what == "lease":
            note(await session.leased())
        elif what == "settle" and held:
            one = held.pop(choose.randrange(len(held)))
            endings = [("delivered", 0), ("retry", 0), ("unspent", 0), ("superseded", 0), ("dead", "answered 422")]
            disposition, argument = choose.choice(endings)
            if disposition in ("delivered", "superseded", "dead") and one.type == "ready":
                for ids in (open_[one.session or ""], *waiting_for.values()):
                    ids.discard(one.id)
            note(await session.leased(Settlement(one, disposition, argument, "500 1")))  # type: ignore[arg-type]
        elif what in ("message", "ready", "announced"):
            given = await session.accept(what, "normal" if what == "message" else "urgent", name)
            if what == "ready":
                open_[name].add(given.id)
            elif what == "message":
                waiting_for[given.id] = {*open_[name]}


async def test_what_is_over_is_forgotten(store: Store) -> None:
    session = Session(store, within=0.001)
    for number in range(40):
        await session.accept("announced", session=f"s{number}")
    for number in range(40, 120):
        await session.accept("announced", session=f"s{number % 4}")
    sizes = [("HLEN", own_key("laravel", partition, "awaits")) for partition in range(PARTITIONS)]
    assert sum(await store.commands(*sizes)) < 12
