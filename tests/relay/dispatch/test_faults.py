"""Whose fault it is, the endpoint's or one event's: a real receiver that refuses some, or all for a while."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from relay.circuit import Circuit
from relay.policies import Batch, Retry
from sluice.store.client import Store
from tests.relay.dispatch.running import CIRCUIT, Receiver, Relay, died, neighbours, running, tried
from tests.waiting import until

pytestmark = pytest.mark.anyio

QUICK = replace(CIRCUIT, window=0.3, minimum=10, open=0.05, cap=0.2, probes=3, slow_start=0.0)
RETRY = Retry(attempts=3, base=0.01, cap=0.1)
REFUSALS = (401, 403, 404, 405, 410, 419, 421, 426, 451, 511)
REJECTIONS = (400, 413, 422)
OTHER_FAULTS = (409, 423, 425, 408, 500, 302)


async def delivered(relay: Relay, count: int) -> None:
    async def are_delivered() -> bool:
        return (await relay.queue.counts()).delivered >= count

    await until(are_delivered, timeout=30)


def in_order(bodies: list[bytes], session: bytes) -> bool:
    numbers = [int(body.split(b" ")[1]) for body in dict.fromkeys(bodies) if body.startswith(session + b" ")]
    return numbers == sorted(numbers)


@pytest.mark.parametrize("status", [404, 403, 419, 422, 500])
async def test_11_of_165_events_at_fault_stop_nobody_and_die_alone(
    store: Store, receiver: tuple[Receiver, str], status: int
) -> None:
    app, url = receiver
    app.answer = lambda body: (status if body == b"bad" else 200, [], b"")
    async with running(Relay(store, url, circuit=QUICK, retry=RETRY)) as relay:
        began = time.monotonic()
        for i in range(154):
            await relay.accept(b"good", f"w{i}")
        await delivered(relay, 154)
        quiet, began = time.monotonic() - began, time.monotonic()
        for i in range(165):
            await relay.accept(b"bad" if i % 15 == 0 else b"good", f"s{i}")
        await delivered(relay, 2 * 154)
        assert time.monotonic() - began < 5 + 2 * quiet
        async with neighbours(relay):
            await died(relay, 11)
    assert app.bodies.count(b"good") == 2 * 154


@pytest.mark.parametrize("status", [500, 503, 404, 419, 422, 429, 409, 401])
async def test_an_outage_of_everything_buries_nothing_and_keeps_the_order_of_ten_sessions(
    store: Store, receiver: tuple[Receiver, str], status: int
) -> None:
    app, url = receiver
    down = False
    taken: list[bytes] = []

    def answer(body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if not down:
            taken.append(body)
        return (status if down else 200), [], b""

    app.answer = answer
    async with running(Relay(store, url, circuit=QUICK, retry=RETRY)) as relay:
        for session in range(10):
            await relay.accept(b"s%d 0" % session, f"s{session}")
        await delivered(relay, 10)
        down = True
        for number in range(1, 6):
            for session in range(10):
                await relay.accept(b"s%d %d" % (session, number), f"s{session}")
        await asyncio.sleep(2.0)  # many times as long as three attempts take
        assert (await relay.queue.counts()).dead == 0
        down = False
        await delivered(relay, 60)
        assert (await relay.queue.counts()).dead == 0
    assert len(taken) == 60
    assert all(in_order(taken, b"s%d" % session) for session in range(10))


@pytest.mark.parametrize("status", [500, 404, 422, 429])
@pytest.mark.parametrize("within", [None, 0.1])
async def test_on_a_quiet_site_a_long_outage_makes_no_dead_letter(
    store: Store, receiver: tuple[Receiver, str], status: int, within: float | None
) -> None:
    app, url = receiver
    app.answer = lambda body: (status, [], b"")
    retry = replace(RETRY, within=within)
    async with running(Relay(store, url, circuit=QUICK, retry=retry)) as relay:
        identity = await relay.accept(b"x")
        await tried(relay, store, identity, 6)
        assert (await relay.queue.counts()).dead == 0
        app.answer = lambda body: (200, [], b"")
        await delivered(relay, 1)


async def test_one_poisonous_session_on_a_quiet_site_stops_no_other_for_longer_than_the_shortest_pause(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.answer = lambda body: (404 if body == b"bad" else 200, [], b"")
    circuit = replace(QUICK, open=0.2, cap=60.0)
    async with running(Relay(store, url, circuit=circuit, retry=replace(RETRY, attempts=100))) as relay:
        identity = await relay.accept(b"bad", "a")
        await tried(relay, store, identity, 12)
        view = Circuit(store, "laravel", circuit, None, probe_lease=1.0)

        async def is_paused() -> bool:
            return (await view.view()).state != "closed"

        await until(is_paused)
        for number in range(5):
            await relay.accept(b"good", f"b{number}")
            began = time.monotonic()
            await delivered(relay, number + 1)
            assert time.monotonic() - began < 1.5
        assert (await relay.queue.counts()).dead == 0, "each time it had hardly been tried again"


async def test_two_sessions_that_are_both_refused_die_when_a_third_gets_through(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.answer = lambda body: (404 if body == b"bad" else 200, [], b"")
    async with running(Relay(store, url, circuit=QUICK, retry=RETRY)) as relay:
        first, second = await relay.accept(b"bad", "a"), await relay.accept(b"bad", "b")
        await tried(relay, store, first, 5)
        await tried(relay, store, second, 5)
        assert (await relay.queue.counts()).dead == 0
        async with neighbours(relay):
            await died(relay, 2)


@pytest.mark.parametrize("status", [404, 429, 422, 500])
async def test_held_closed_a_session_that_fails_waits_longer_each_time(
    store: Store, receiver: tuple[Receiver, str], status: int
) -> None:
    app, url = receiver
    app.answer = lambda body: (status, [], b"")
    circuit = replace(QUICK, cap=60.0)
    await Circuit(store, "laravel", circuit, None, probe_lease=1.0).hold("closed", "we know")
    retry = Retry(attempts=12, base=0.1, cap=600.0)
    async with running(Relay(store, url, circuit=circuit, retry=retry)) as relay:
        await relay.accept(b"x")
        await asyncio.sleep(3.0)  # what is shown is that little is sent in this time
        assert 2 <= len(app.requests) <= 16
        assert (await relay.queue.counts()).dead == 0


@pytest.mark.parametrize("status", [422, 404, 500])
async def test_two_relays_agree_on_whose_fault_it_is(store: Store, receiver: tuple[Receiver, str], status: int) -> None:
    """Also where one of them has only what is at fault."""
    app, url = receiver
    app.answer = lambda body: (status if body == b"bad" else 200, [], b"")
    one, other = (Relay(store, url, circuit=QUICK, retry=RETRY) for _ in range(2))
    async with running(one), running(other), neighbours(one):
        for i in range(5):
            await other.accept(b"bad", f"s{i}")
        await died(one, 5)


@pytest.mark.parametrize("status", [422, 404, 500])
async def test_a_batch_endpoint_that_takes_nothing_for_a_while_loses_nothing(
    store: Store, receiver: tuple[Receiver, str], status: int
) -> None:
    app, url = receiver
    app.answer = lambda body: (status, [], b"")
    relay = Relay(store, url, circuit=QUICK, retry=RETRY, batch=Batch(max=50, wait=0.02))
    async with running(relay):
        for number in range(5):
            for session in range(4):
                await relay.accept(b'"s%d %d"' % (session, number), f"s{session}")
        await asyncio.sleep(1.5)  # many times as long as three attempts take
        assert (await relay.queue.counts()).dead == 0
        app.answer = lambda body: (200, [], b"")
        await delivered(relay, 20)
        assert (await relay.queue.counts()).dead == 0


@pytest.mark.parametrize("status", [*REFUSALS, *REJECTIONS, *OTHER_FAULTS])
async def test_whatever_the_status_nothing_is_buried_while_nobody_gets_through_and_it_pauses(
    store: Store, receiver: tuple[Receiver, str], status: int
) -> None:
    app, url = receiver
    app.answer = lambda body: (status, [], b"")
    circuit = replace(QUICK, open=60.0, cap=60.0)
    async with running(Relay(store, url, circuit=circuit, retry=RETRY)) as relay:
        for i in range(4):
            await relay.accept(b"x", f"s{i}")

        async def is_open() -> bool:
            return (await Circuit(store, "laravel", circuit, None, probe_lease=1.0).view()).state == "open"

        await until(is_open)
        counts = await relay.queue.counts()
        assert (counts.dead, counts.delivered) == (0, 0)
