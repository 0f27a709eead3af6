from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from relay.circuit import Circuit, Report
from relay.policies import Retry
from sluice.config import Rate
from sluice.http.signatures import refusal
from sluice.store.client import Store
from tests.relay.dispatch.running import CIRCUIT, SIGNATURE, Receiver, Relay, died, neighbours, running, tried
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def test_an_event_is_delivered_signed_with_its_id_and_its_own_path(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    async with running(Relay(store, url)) as relay:
        identity = await relay.accept(b'{"a":1}')
        await until(lambda: relay.settled(1))
    headers, body, path = app.requests[0]
    assert (body, path) == (b'{"a":1}', "/base/hook")
    assert headers[b"webhook-id"] == identity.encode()
    assert headers[b"x-sluice-attempt"] == b"1"
    assert headers[b"content-type"] == b"a/b"
    assert headers[b"content-length"] == b"7"
    assert refusal(SIGNATURE, list(headers.items()), body, time.time()) is None


async def test_a_session_stays_in_order_through_failures_while_others_go_on(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    failed: set[bytes] = set()

    def fail_once(body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        first = body not in failed
        failed.add(body)
        return (500 if first and body.startswith(b"a") else 200), [], b""

    app.answer = fail_once
    async with running(Relay(store, url)) as relay:
        for i in range(5):
            await relay.accept(b"a%d" % i, "a")
            await relay.accept(b"b%d" % i, "b")
        await until(lambda: relay.settled(10))
    delivered_a = [body for body in dict.fromkeys(app.bodies) if body.startswith(b"a")]
    assert delivered_a == [b"a%d" % i for i in range(5)]
    assert [b for b in app.bodies if b.startswith(b"a")] == [b"a%d" % i for i in range(5) for _ in range(2)]
    assert [b for b in app.bodies if b.startswith(b"b")] == [b"b%d" % i for i in range(5)]


async def test_each_attempt_carries_the_same_id_and_its_own_number(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.answer = lambda body: (500 if body == b"x" else 200, [], b"")
    async with running(Relay(store, url)) as relay, neighbours(relay):
        identity = await relay.accept(b"x")
        await died(relay)
    sent = [headers for headers, body, _ in app.requests if body == b"x"]
    assert list(dict.fromkeys(headers[b"x-sluice-attempt"] for headers in sent)) == [b"1", b"2", b"3"]
    assert {headers[b"webhook-id"] for headers in sent} == {identity.encode()}


async def test_when_the_attempts_are_used_up_it_is_a_dead_letter_and_the_next_one_goes(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.answer = lambda body: (500 if body == b"bad" else 200, [], b"")
    async with running(Relay(store, url)) as relay, neighbours(relay):
        await relay.accept(b"bad")
        await relay.accept(b"good")
        await until(lambda: b"good" in app.bodies)
        (letter,) = [letter async for letter in relay.dead.all(with_bodies=True)]
    assert (letter.event.body, letter.reason) == (b"bad", "answered 500; attempt 3 of 3")
    bodies = [body for body in app.bodies if body != b"other"]
    assert len(bodies) >= 4
    assert bodies == [b"bad"] * (len(bodies) - 1) + [b"good"]


async def test_a_rejected_event_is_a_dead_letter_with_the_answer_once_others_have_got_through(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.answer = lambda body: (
        (422, [], b'{"message":"The id field is required."}') if body == b"bad" else (200, [], b"")
    )
    async with running(Relay(store, url)) as relay:
        identity = await relay.accept(b"bad")
        await tried(relay, store, identity, 3)
        assert (await relay.queue.counts()).dead == 0, "nobody has shown that it is the event's fault"
        async with neighbours(relay):
            await died(relay)
        (letter,) = [letter async for letter in relay.dead.all()]
    assert letter.reason == 'answered 422: {"message":"The id field is required."}'


async def test_429_pauses_the_endpoint_and_spends_no_attempt(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    refusing_until = time.monotonic() + 0.5
    app.answer = lambda body: (429 if time.monotonic() < refusing_until else 200, [], b"")
    async with running(Relay(store, url)) as relay:
        for i in range(20):
            await relay.accept(b"%d" % i, f"s{i}")
        await until(lambda: relay.settled(20))
        assert (await relay.queue.counts()).dead == 0
    refused = len(app.requests) - 20
    assert refused <= 16 + 10, "while it is paused only probes go out"
    assert {headers[b"x-sluice-attempt"] for headers, _, _ in app.requests} == {b"1"}


async def test_never_more_at_once_than_the_concurrency(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    app.gate.clear()
    async with running(Relay(store, url, concurrency=3)) as relay:
        for i in range(10):
            await relay.accept(b"%d" % i, f"s{i}")
        await until(lambda: app.at_once == 3)
        app.gate.set()
        await until(lambda: relay.settled(10))
    assert app.max_at_once == 3


async def test_never_faster_than_the_pace(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    async with running(Relay(store, url, rate=Rate(20, 1.0))) as relay:
        started = time.monotonic()
        for i in range(30):
            await relay.accept(b"%d" % i, f"s{i}")
        await until(lambda: relay.settled(30))
        took = time.monotonic() - started
    assert took >= 10 / 20 - 0.05, "twenty at once, the other ten at twenty a second"
    assert len(app.requests) == 30


async def test_a_receiver_that_hangs_costs_its_timeout_and_no_attempt(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.gate.clear()
    once = Retry(attempts=1, base=0.01, cap=0.01)
    async with running(Relay(store, url, timeout=0.2, retry=once)) as relay:
        reasons = await tried(relay, store, await relay.accept(b"x"), 3)
        assert (await relay.queue.counts()).dead == 0
    assert all(reason.startswith("no response within 0.") for reason in reasons)


async def test_a_receiver_that_is_not_there_buries_nothing_and_is_a_failure_with_a_readable_reason(
    store: Store, free_port: Callable[[], int]
) -> None:
    once = Retry(attempts=1, base=0.01, cap=0.01)
    async with running(Relay(store, f"http://127.0.0.1:{free_port()}", retry=once)) as relay:
        reasons = await tried(relay, store, await relay.accept(b"x"), 3)
        assert (await relay.queue.counts()).dead == 0
    assert "refused" in reasons[0]


async def test_stopping_finishes_what_is_in_flight_and_starts_nothing_new(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.gate.clear()
    relay = Relay(store, url, concurrency=1)
    async with running(relay):
        await relay.accept(b"under way", "a")
        await relay.accept(b"waiting", "b")
        await until(lambda: app.at_once == 1)
        relay.stop.request()
        app.gate.set()
    counts = await relay.queue.counts()
    assert (counts.delivered, counts.waiting, counts.leased) == (1, 1, 0)


async def test_what_was_prefetched_goes_back_unsent_when_the_endpoint_hangs(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    relay = Relay(store, url, timeout=20.0)
    for number in range(600):
        await relay.accept(b"%d" % number, session=f"s{number}")
    most = 0

    async def only_those_under_way() -> bool:
        nonlocal most
        leased = (await relay.queue.counts()).leased
        most = max(most, leased)
        return leased == 16

    async with running(relay):
        await until(lambda: len(app.requests) > 200)
        app.gate.clear()
        await until(only_those_under_way)
        sent = len(app.requests)
        app.gate.set()
        await until(lambda: relay.settled(600))
    assert sent < 600
    assert most <= 13 * 16
    assert len(app.requests) == len(set(app.bodies)) == 600
    assert {headers[b"x-sluice-attempt"] for headers, _, _ in app.requests} == {b"1"}


async def test_stopping_gives_back_what_was_prefetched(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    relay = Relay(store, url, timeout=20.0)
    for number in range(600):
        await relay.accept(b"%d" % number, session=f"s{number}")
    async with running(relay):
        await until(lambda: len(app.requests) > 200)
    counts = await relay.queue.counts()
    assert counts.leased == 0
    assert counts.delivered == len(app.requests) == 600 - counts.waiting
    assert counts.waiting > 0


async def test_after_a_failure_the_circuit_is_asked_before_anything_more_is_sent(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    circuit = replace(CIRCUIT, minimum=1, ratio=0.001, open=60, cap=60)
    relay = Relay(store, url, timeout=20.0, circuit=circuit)
    for number in range(600):
        await relay.accept(b"%d" % number, session=f"s{number}")
    failed = 0

    def answer(body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        nonlocal failed
        if len(app.requests) <= 200:
            return 200, [], b""
        failed += 1
        return 500, [], b""

    app.answer = answer
    async with running(relay):
        await until(lambda: len(app.requests) > 200)

        async def parked() -> bool:
            counts = await relay.queue.counts()
            return counts.leased == 0 and counts.waiting > 0

        await until(parked)
    assert failed <= 2 * 16  # those in flight, and those of a poll that was in flight too


async def test_two_relays_share_the_work_and_repeat_nothing(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    async with running(Relay(store, url)) as one, running(Relay(store, url)) as other:
        for i in range(200):
            await one.accept(b"%d" % i, f"s{i % 10}")
            other.dispatcher.wake(b"0,1,2,3")
        await until(lambda: one.settled(200))
    assert sorted(app.bodies) == sorted(b"%d" % i for i in range(200))
    for session in range(10):
        numbers = [int(body) for body in app.bodies if int(body) % 10 == session]
        assert numbers == sorted(numbers)


async def test_an_open_circuit_leaves_the_store_and_the_receiver_in_peace(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    app, url = receiver
    app.answer = lambda body: (429, [(b"retry-after", b"60")], b"")
    async with running(Relay(store, url, circuit=replace(CIRCUIT, cap=60.0))) as relay:
        await relay.accept(b"x")
        await until(lambda: len(app.requests) == 1)
        await until(lambda: relay.settled(0))

        async def commands() -> int:
            return int((await store.redis.info("stats"))["total_commands_processed"])

        before = await commands()
        await asyncio.sleep(1.0)  # what is shown is that nothing happens in this time
        assert len(app.requests) == 1
        assert await commands() - before < 40


async def test_a_backlog_costs_a_fraction_of_a_round_trip_for_each_event(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    """With that of its accept, at most 1.2 at 16 at a time."""
    relay = Relay(store, receiver[1], concurrency=16)
    await relay.accept(b"first")
    before = store.trips
    events = 320
    for i in range(events):
        await relay.accept(b"%d" % i, f"s{i}")
    assert store.trips - before == events
    async with running(relay):
        await until(lambda: len(receiver[0].requests) == events + 1)
    each = (store.trips - before) / events
    assert each <= 1.2, f"{each:.2f}"


async def test_an_idle_event_costs_three_round_trips(store: Store, receiver: tuple[Receiver, str]) -> None:
    """One in, one to lease it, one to settle it; and one a while to see whether the channel spoke in vain."""
    async with running(Relay(store, receiver[1])) as relay:
        await relay.accept(b"first")
        await until(lambda: len(receiver[0].requests) == 1)
        await asyncio.sleep(0.1)  # until it is settled
        relay.dispatcher._looked_everywhere_at = time.monotonic() + 3600
        before = store.trips
        await relay.accept(b"second")
        await until(lambda: len(receiver[0].requests) == 2)
        await asyncio.sleep(0.1)
        assert store.trips - before <= 4


async def test_after_an_outage_it_goes_slowly_at_first(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    circuit = replace(CIRCUIT, slow_start=1.0)
    refusing_until = time.monotonic() + 0.2
    app.answer = lambda body: (429 if time.monotonic() < refusing_until else 200, [], b"")
    async with running(Relay(store, url, circuit=circuit, concurrency=16, timeout=5.0)) as relay:
        await relay.accept(b"first")
        await until(lambda: relay.settled(1))
        app.gate.clear()
        closed = time.monotonic()
        for i in range(30):
            await relay.accept(b"%d" % i, f"s{i}")
        assert app.at_once <= 16 * (time.monotonic() - closed + 0.2) + 1
        early = app.at_once
        await until(lambda: app.at_once == 16)
        assert early < 16
        assert time.monotonic() - closed > 0.5
        app.gate.set()
        await until(lambda: relay.settled(31))


async def test_held_open_nothing_is_sent_and_let_go_it_goes_on(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    async with running(Relay(store, url)) as relay:
        await relay.accept(b"before")
        await until(lambda: relay.settled(1))
        circuit = Circuit(store, "laravel", CIRCUIT, None, probe_lease=1.0)
        await circuit.hold("open", "moving house")
        await relay.accept(b"after")
        await asyncio.sleep(0.5)  # what is shown is that nothing happens in this time
        assert app.bodies == [b"before"]
        counts = await relay.queue.counts()
        assert (counts.waiting, counts.leased, counts.retried) == (1, 0, 0)
        await circuit.release()
        await until(lambda: relay.settled(2))
    assert {headers[b"x-sluice-attempt"] for headers, _, _ in app.requests} == {b"1"}


async def test_what_it_was_leased_while_the_circuit_opened_is_put_back_unsent(
    store: Store, receiver: tuple[Receiver, str]
) -> None:
    """Another process has seen the receiver fall: this one learns it in the very poll in which it leases."""
    app, url = receiver
    async with running(Relay(store, url)) as relay:
        await relay.accept(b"before")
        await until(lambda: relay.settled(1))
        other = Circuit(store, "laravel", replace(CIRCUIT, open=30.0, cap=30.0), None, probe_lease=1.0)
        generation = (await other.admit(0)).generation
        await other.admit(0, [(generation, Report(failures=1, paused=True, why="answered 429"))])
        await relay.accept(b"after")

        async def put_back() -> bool:
            return (await relay.queue.counts()).leased == 0

        await asyncio.sleep(0.2)
        await until(put_back)
        assert (app.bodies, (await relay.queue.counts()).waiting) == ([b"before"], 1)
