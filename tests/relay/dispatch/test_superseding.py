"""Of the events with the same key only the newest is sent: as they wait, are tried again, replayed, sent once more."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.policies import Batch
from relay.queue import newest
from relay.queue.codec import Event, Lane, Superseding
from relay.queue.dead_letters import DeadLetters
from relay.queue.history import EndpointHistory, history_of
from relay.queue.kept import Kept, once_more
from relay.queue.layout import partition_of
from relay.queue.moving import Mover
from relay.queue.newest import Newest
from relay.queue.queue import Queue
from sluice.store.client import Store
from tests.relay.dispatch.running import Receiver, Relay, died, neighbours, running
from tests.relay.making import event
from tests.waiting import until

pytestmark = pytest.mark.anyio
SESSIONS = ("s1", "s2", "s3", "s4", "s5", "s6")
OLD, NEW = "s1", next(session for session in SESSIONS if partition_of(session) != partition_of("s1"))
"""In different slots of a cluster."""


def ready(session: str, body: bytes, phone: str = "49", lane: Lane = "urgent") -> Event:
    return event(session, body, lane, type="session_ready", superseding=Superseding(phone))


async def accept(relay: Relay, given: Event, *, noted: bool = True) -> Event:
    """`noted` False: by a gateway that died as soon as it was stored."""
    destination = relay.queue.destination if noted else replace(relay.queue.destination, newest=None)
    await relay.inbox.accept(given, [destination])
    relay.dispatcher.wake(b"0,1,2,3")
    await asyncio.sleep(0.002)  # in one millisecond none is older
    return given


async def at_laravel(store: Store, given: Event | str) -> EndpointHistory:
    history = await history_of(store, ["laravel"], given if isinstance(given, str) else given.id)
    assert history is not None
    return history.endpoints[0]


def superseded(store: Store, given: Event | str, by: Event) -> Callable[[], Awaitable[bool]]:
    async def is_superseded() -> bool:
        here = await at_laravel(store, given)
        return here.state == "superseded" and here.reason == by.id

    return is_superseded


def delivered(relay: Relay, count: int = 1) -> Callable[[], Awaitable[bool]]:
    async def are_delivered() -> bool:
        return (await relay.queue.counts()).delivered == count

    return are_delivered


async def test_an_older_one_that_waits_is_not_sent_after_a_newer_one_was_accepted(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    relay = Relay(store, url)
    old = await accept(relay, ready(OLD, b"old"))
    other = await accept(relay, ready(OLD, b"of another phone", phone="50"))
    new = await accept(relay, ready(NEW, b"new", lane="bulk"))
    async with running(relay):
        await until(delivered(relay, 2))
        await until(superseded(store, old, new))
    assert sorted(app.bodies) == [b"new", b"of another phone"]
    counts = await relay.queue.counts()
    assert (counts.superseded, counts.waiting, counts.bytes) == (1, 0, 0)
    assert (await at_laravel(store, other)).state == "delivered"


async def test_an_older_one_that_failed_is_not_tried_again(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    app.answer = lambda body: (500 if body == b"old" else 200, [], b"")
    async with running(Relay(store, url, retry=replace(Relay(store, url).endpoint.retry, base=5.0, cap=5.0))) as relay:
        old = await accept(relay, ready(OLD, b"old"))
        await until(lambda: app.bodies == [b"old"])
        new = await accept(relay, ready(NEW, b"new"))
        await until(delivered(relay))
        await relay.queue.advance_one()
        await until(superseded(store, old, new))
    assert app.bodies == [b"old", b"new"]
    assert [attempt.status for attempt in (await at_laravel(store, old)).attempts] == [500]


async def test_a_dead_letter_is_replayed_to_nobody_and_leaves(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    app.answer = lambda body: (422 if body == b"old" else 200, [], b"")
    async with running(Relay(store, url)) as relay:
        old = await accept(relay, ready(OLD, b"old"))
        async with neighbours(relay):  # by whom it is known that it is the event's own fault
            await died(relay)
        app.answer = lambda body: (200, [], b"")
        new = await accept(relay, ready(NEW, b"new"), noted=False)
        await until(lambda: b"new" in app.bodies)
        letters = DeadLetters(store, "laravel")
        found = [letter async for letter in letters.all()]
        assert await newest.superseded(store, "laravel", [letter.event for letter in found]) == {old.id}
        assert await letters.replay(found) == 1
        relay.dispatcher.wake(b"0,1,2,3")
        await until(superseded(store, old, new))
    assert app.bodies.count(b"new") == 1
    assert app.bodies[app.bodies.index(b"new") :].count(b"old") == 0
    assert (await relay.queue.counts()).dead == 0


async def test_what_is_sent_once_more_is_as_old_as_it_was(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    relay = Relay(store, url, keep_bodies=True)
    async with running(relay):
        old = await accept(relay, ready(OLD, b"old"))
        await until(delivered(relay))
        new = await accept(relay, ready(NEW, b"new"))
        await until(delivered(relay, 2))
        kept = Kept(store, "laravel")
        for first in (old, new):
            whole = await kept.whole(first.id)
            assert whole is not None
            await accept(relay, once_more(whole, 7))
        await until(delivered(relay, 3))
        await until(superseded(store, f"{old.id}~7", new))
    assert app.bodies == [b"old", b"new", b"new"]


async def test_one_that_is_moved_from_another_endpoint_is_as_old_there(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    relay = Relay(store, url)
    lost = Queue(store, "lost", lease=5.0, max_bytes=10**6, max_events=100)
    old = ready(OLD, b"old")
    await relay.inbox.accept(old, [lost.destination])
    await asyncio.sleep(0.002)
    async with running(relay):
        new = await accept(relay, ready(NEW, b"new"))
        await until(delivered(relay))
        assert (await Mover(store, "lost", "laravel").move(10)).gone == 1
        await until(superseded(store, old, new))
    assert app.bodies == [b"new"]


async def test_a_newer_one_is_not_sent_beside_an_older_one_of_another_session(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.gate.clear()
    async with running(Relay(store, url, timeout=30.0)) as relay:
        await accept(relay, ready(OLD, b"old"))
        await until(lambda: app.bodies == [b"old"])
        await accept(relay, ready(NEW, b"new"))
        await accept(relay, event(NEW, b"of its session"))
        await until(lambda: b"of its session" in app.bodies)
        await asyncio.sleep(0.3)
        assert b"new" not in app.bodies
        app.gate.set()
        await until(delivered(relay, 3))
    assert app.bodies == [b"old", b"of its session", b"new"]
    assert (await relay.queue.counts()).retried == 0


async def test_a_relay_that_dies_while_it_sends_an_older_one_holds_the_newer_one_up_for_its_timeout(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    relay = Relay(store, url, timeout=0.5)
    old = await accept(relay, ready(OLD, b"old"))
    relay.queue.look_everywhere()
    (leased,) = (await relay.queue.poll([], 10)).leased
    assert (await relay.queue.newest.may_send(leased, alone=True)).may == "go"
    began = time.monotonic()
    async with running(Relay(store, url, timeout=0.5)) as another:
        new = await accept(another, ready(NEW, b"new"))
        await until(delivered(another))
        assert time.monotonic() - began > 0.4
        await until(superseded(store, old, new))
    assert app.bodies == [b"new"]


async def test_while_the_store_does_not_say_whether_it_is_the_newest_it_waits(
    tmp_path: Path, store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    nowhere = Store(f"unix://{tmp_path}/nowhere.sock", timeout=0.1)
    async with running(Relay(store, url, newest=Newest(nowhere, "laravel", 60.0, 1.0))) as relay:
        given = await accept(relay, ready(OLD, b"old"))
        await accept(relay, event("another", b"of another"))
        await until(delivered(relay))
        await asyncio.sleep(0.2)
        assert (await at_laravel(store, given)).state in ("waiting", "leased")
    assert app.bodies == [b"of another"]
    async with running(Relay(store, url)) as relay:
        await until(delivered(relay, 2))
    assert app.bodies == [b"of another", b"old"]
    await nowhere.close()


async def test_in_a_batch_only_those_go_that_were_not_superseded(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    relay = Relay(store, url, batch=Batch(10, 0.01))
    old = await accept(relay, ready(OLD, b'"old"'))
    await accept(relay, event(OLD, b'"message"', "urgent"))
    new = await accept(relay, ready(NEW, b'"new"'))
    async with running(relay):
        await until(delivered(relay, 2))
        await until(superseded(store, old, new))
    sent = b"".join(app.bodies)
    assert (b"old" in sent, b"message" in sent, b"new" in sent) == (False, True, True)


async def test_whatever_fails_none_is_sent_after_a_newer_one(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    seed = random.randrange(10**6)
    choose = random.Random(seed)
    app.answer = lambda body: (choose.choice([200, 200, 500, 503]), [], b"")
    letters = DeadLetters(store, "laravel")
    async with running(Relay(store, url, timeout=0.3)) as relay:
        for number in range(60):
            lane = choose.choice(["urgent", "normal"])
            phone = choose.choice(["49", "50"])
            given = ready(choose.choice(SESSIONS), b"%s %03d" % (phone.encode(), number), phone, lane)
            await accept(relay, given, noted=choose.random() < 0.7)
            if choose.random() < 0.2:
                await letters.replay([letter async for letter in letters.all()])
            await asyncio.sleep(choose.choice([0.0, 0.0, 0.02]))

        async def is_empty() -> bool:
            counts = await relay.queue.counts()
            return counts.waiting + counts.leased == 0

        await until(is_empty, timeout=40.0)
    for phone in (b"49", b"50"):
        sent = [body for body in app.bodies if body.startswith(phone)]
        assert sent == sorted(sent), seed
