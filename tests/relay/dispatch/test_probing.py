"""One attempt that a person wants, whatever the circuit's state, on a relay that runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.circuit import Circuit, Probed
from relay.policies import Retry
from sluice.config import Rate
from sluice.store.client import Store
from tests.relay.dispatch.running import CIRCUIT, Receiver, Relay, running, tried
from tests.waiting import until

pytestmark = pytest.mark.anyio

LONG = replace(CIRCUIT, window=0.2, open=600.0, cap=3600.0)
NO_PATIENCE = Retry(attempts=12, base=500.0, cap=600.0)


async def probed(circuit: Circuit, relay: Relay) -> Probed:
    """What came of one attempt more."""
    assert await relay.queue.advance_one() is not None
    number = await circuit.probe()
    seen: list[Probed] = []

    async def is_known() -> bool:
        latest = (await circuit.view()).probed
        seen[:] = [latest] if latest is not None and latest.number == number else []
        return bool(seen)

    await until(is_known)
    return seen[0]


@pytest.mark.parametrize("asked", [b"86313600", b"1000000000"])
async def test_an_endpoint_that_wants_to_be_left_alone_for_years(
    store: Store, receiver: tuple[Receiver, str], asked: bytes
) -> None:
    app, url = receiver
    app.answer = lambda body: (429, [(b"retry-after", asked)], b"")
    circuit = Circuit(store, "laravel", LONG, None, probe_lease=1.0)
    async with running(Relay(store, url, circuit=LONG)) as relay:
        await tried(relay, store, await relay.accept(b"x"), 1)
        seen = await circuit.view()
        assert (seen.state, seen.retry_after <= 3600) == ("open", True)
        again = await probed(circuit, relay)
        assert (again.went_well, again.status, again.why, len(app.requests)) == (False, 429, "answered 429", 2)
        app.answer = lambda body: (200, [], b"")
        assert (await probed(circuit, relay)).went_well
        await until(lambda: relay.settled(1))
        await relay.accept(b"y", "another")
        await until(lambda: relay.settled(2))


@pytest.mark.parametrize("rate", [None, Rate(1, 3600.0)])
async def test_held_open_by_a_person_one_goes_and_it_is_held_again(
    store: Store, receiver: tuple[Receiver, str], rate: Rate | None
) -> None:
    app, url = receiver
    app.answer = lambda body: (500, [], b"")
    circuit = Circuit(store, "laravel", LONG, rate, probe_lease=1.0)
    await circuit.hold("open", "moving house")
    async with running(Relay(store, url, circuit=LONG, retry=NO_PATIENCE, rate=rate)) as relay:
        for number in range(5):
            await relay.accept(b"%d" % number, f"s{number}")
        first = await probed(circuit, relay)
        assert (first.went_well, first.status, first.why) == (False, 500, "answered 500")
        app.answer = lambda body: (200, [], b"")
        assert (await probed(circuit, relay)).went_well
        seen = await circuit.view()
        assert (seen.state, seen.held, seen.why) == ("open", True, "moving house")
        assert len(app.requests) == 2


async def test_one_whose_backoff_is_long_is_sent_at_once(store: Store, receiver: tuple[Receiver, str]) -> None:
    app, url = receiver
    app.answer = lambda body: (500, [], b"")
    circuit = Circuit(store, "laravel", LONG, None, probe_lease=1.0)
    async with running(Relay(store, url, circuit=LONG, retry=NO_PATIENCE)) as relay:
        identity = await relay.accept(b"x")
        await tried(relay, store, identity, 1)
        assert (await circuit.view()).state == "closed"
        assert (await probed(circuit, relay)).was_closed
        await tried(relay, store, identity, 2)


async def test_without_anything_that_waits_nothing_is_made_due(store: Store, receiver: tuple[Receiver, str]) -> None:
    relay = Relay(store, receiver[1])
    assert await relay.queue.advance_one() is None
    identity = await relay.accept(b"x")
    assert await relay.queue.advance_one() == identity
    relay.queue.look_everywhere()
    await relay.queue.poll([], 100)
    assert await relay.queue.advance_one() is None, "what is leased is on its way"


async def test_a_probe_that_nobody_begins_is_forgotten(store: Store) -> None:
    circuit = Circuit(store, "laravel", LONG, None, probe_lease=1.0)
    await circuit.hold("open", "")
    await circuit.probe()
    assert (await circuit.admit(0)).permits == 0, "it is for who has something to send"
    given = await circuit.admit(5)
    assert (given.permits, given.generation, given.held) == (1, -1, True)
    assert (await circuit.admit(5)).permits == 0
    assert await circuit.probe() == 2
    await store.redis.hset("sl:{laravel}:circuit", "probe", "2 1 0")  # its time is over
    assert (await circuit.admit(5)).permits == 0
