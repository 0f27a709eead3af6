from __future__ import annotations

import asyncio
import time

import pytest

from relay.circuit import Circuit, Report
from relay.deliver.outcome import Delivered, Failed, Paused
from relay.dispatch.permits import Permits
from relay.dispatch.slots import SUSPECT, Slots
from relay.policies import CircuitPolicy
from relay.queue.codec import Delivery
from sluice.store.client import Store
from tests.waiting import until

pytestmark = pytest.mark.anyio

POLICY = CircuitPolicy(window=30, minimum=10, ratio=0.5, open=0.05, cap=0.05, probes=1, slow_start=5.0)


@pytest.fixture
def permits(store: Store) -> Permits:
    return Permits(Circuit(store, "laravel", POLICY, None, probe_lease=1.0))


@pytest.fixture
def slots(permits: Permits) -> Slots:
    return Slots(10, permits)


def delivery(name: str, crash_count: int = 0) -> Delivery:
    return Delivery(
        name, "", None, b"", (), b"", 0.0, 1, 0, b"n" + name.encode(), b"1", name.encode(), crash_count=crash_count
    )


async def test_a_slot_is_taken_until_its_post_has_ended(slots: Slots) -> None:
    task = asyncio.current_task()
    assert task is not None
    slots.occupy([delivery("a"), delivery("b")], task)
    assert (slots.free(0.0), len(slots)) == (9, 1)
    slots.release([delivery("a"), delivery("b")])
    assert (slots.free(0.0), len(slots)) == (10, 0)


async def test_of_suspects_one_goes_and_the_next_when_it_has_ended(slots: Slots) -> None:
    first, second = delivery("first", SUSPECT), delivery("second", SUSPECT)
    other = delivery("a")
    assert slots.isolate_suspect([[other], [first], [second]], []) == ([[other], [first]], [second])
    assert slots.isolate_suspect([[second]], []) == ([], [second])
    slots.forget_suspect([delivery("a")])
    assert slots.isolate_suspect([[second]], []) == ([], [second])
    slots.forget_suspect([first])
    assert slots.isolate_suspect([[second]], []) == ([[second]], [])


async def test_after_an_outage_a_part_of_the_slots_is_free(permits: Permits, slots: Slots) -> None:
    await permits.ask(1)
    permits.count(permits.admission.generation, [Paused("answered 429", 0.0, 429)])
    assert await permits.ask(1) == 0
    await until(lambda: permits.ask(1), what="a probe")
    permits.count(permits.admission.generation, [Delivered(200)])
    await permits.ask(1)
    now = time.monotonic()
    assert permits.admission.state == "closed"
    assert not permits.are_plentiful(now)
    assert slots.free(now) == 1
    assert slots.free(now + 2.6) == 5
    assert permits.are_plentiful(now + 5.1)
    assert slots.free(now + 5.1) == 10


async def test_reports_that_the_circuit_did_not_get_are_kept_with_later_ones(permits: Permits) -> None:
    permits.count(7, [Failed("answered 500")])
    lost = permits.take_reports()
    permits.count(7, [Delivered(200), Delivered(200)])
    permits.put_back(lost)
    assert permits.take_reports() == {7: Report(successes=1, failures=1, why="answered 500")}


async def test_unused_permits_are_given_back_only_where_they_are_scarce(permits: Permits) -> None:
    await permits.ask(1)
    permits.give_back(permits.admission.generation, 3)
    assert permits.take_reports() == {}
