from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from relay.circuit import Circuit, Report
from relay.policies import CircuitPolicy
from relay.progress import LEASE_TIMEOUT, Progress
from relay.queue.queue import Queue, Settlement
from sluice.config import Rate
from sluice.store.client import Store
from tests.relay.making import accept, event

Age = Callable[[float], Awaitable[None]]
pytestmark = pytest.mark.anyio

POLICY = CircuitPolicy(window=30, minimum=1000, ratio=0.5, open=30.0, cap=60.0, probes=1)


@pytest.fixture
def queue(store: Store) -> Queue:
    return Queue(store, "laravel", lease=30.0, max_bytes=10**6, max_events=1000)


@pytest.fixture
def circuit(store: Store) -> Circuit:
    return Circuit(store, "laravel", POLICY, None, probe_lease=1.0)


@pytest.fixture
def age(store: Store) -> Age:
    """Makes all that is due older, as waiting does."""

    async def older(seconds: float) -> None:
        for partition in range(4):
            key = f"sl:{{{partition:02d}}}:laravel:normal"
            for stream in await store.redis.zrange(key, 0, -1):
                await store.redis.zincrby(key, -seconds * 1000, stream)

    return older


async def test_what_is_due_and_not_claimed_for_long_is_seen(queue: Queue, circuit: Circuit, age: Age) -> None:
    progress = Progress()
    assert not await progress.stalled(queue, circuit, 0.0)
    await accept(queue, event())
    assert not await progress.stalled(queue, circuit, 1.0)
    await age(LEASE_TIMEOUT + 1)
    assert not await progress.stalled(queue, circuit, 10.0)
    assert await progress.stalled(queue, circuit, 10.0 + LEASE_TIMEOUT + 1)
    (delivery,) = (await queue.poll([], 10)).leased
    assert not await progress.stalled(queue, circuit, 11.0 + LEASE_TIMEOUT + 1), "it was claimed"
    await queue.poll([Settlement(delivery, "delivered")], 0)
    assert not await progress.stalled(queue, circuit, 1000.0)


async def test_behind_an_open_circuit_nothing_has_to_be_claimed(queue: Queue, circuit: Circuit, age: Age) -> None:
    progress = Progress()
    await accept(queue, event())
    await age(LEASE_TIMEOUT + 1)
    assert not await progress.stalled(queue, circuit, 0.0)
    generation = (await circuit.admit(1)).generation
    await circuit.admit(0, [(generation, Report(failures=1, paused=True))])
    assert not await progress.stalled(queue, circuit, LEASE_TIMEOUT + 1)


async def test_a_slow_pace_has_its_time(store: Store, queue: Queue, age: Age) -> None:
    progress = Progress()
    slow_start_left = Circuit(store, "laravel", POLICY, Rate(1, 60.0), probe_lease=1.0)
    await accept(queue, event())
    await age(1000.0)
    assert not await progress.stalled(queue, slow_start_left, 0.0)
    assert not await progress.stalled(queue, slow_start_left, 100.0)
    assert await progress.stalled(queue, slow_start_left, LEASE_TIMEOUT + 121)
