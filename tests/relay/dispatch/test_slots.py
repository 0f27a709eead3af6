from __future__ import annotations

import asyncio
import time

import pytest

from relay.circuit import Circuit
from relay.deliver.outcome import Delivered, Failed, NotSent, Outcome, Paused, Refused, Rejected
from relay.dispatch.permits import Permits
from relay.dispatch.slots import Slots
from relay.policies import CircuitPolicy
from relay.queue.codec import Delivery
from relay.queue.suspects import SUSPECT
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
    permits.count(permits.admission.generation, [delivery("a")], [Paused("answered 429", 0.0, 429)], time.time())
    assert await permits.ask(1) == 0
    await until(lambda: permits.ask(1), what="a probe")
    permits.count(permits.admission.generation, [delivery("a")], [Delivered(200)], time.time())
    await permits.ask(1)
    now = time.monotonic()
    assert permits.admission.state == "closed"
    assert not permits.are_plentiful(now)
    assert slots.free(now) == 1
    assert slots.free(now + 2.6) == 5
    assert permits.are_plentiful(now + 5.1)
    assert slots.free(now + 5.1) == 10


async def test_reports_that_the_circuit_did_not_get_are_kept_with_later_ones(permits: Permits) -> None:
    permits.count(7, [delivery("a")], [Failed("answered 500", None, 500)], 10.0)
    lost = permits.take_reports()
    permits.count(7, [delivery("b"), delivery("c")], [Delivered(200), Delivered(200)], 11.0)
    permits.put_back(lost)
    (report,) = permits.take_reports().values()
    assert (report.successes, report.failures, report.why, report.ok_at) == (1, 1, "answered 500", 11.0)
    assert (len(report.keys), report.statuses) == (1, {500: 1})


@pytest.mark.parametrize(
    ("outcomes", "counted", "unused", "ok"),
    [
        ([Rejected("answered 422", 422)], (0, 0, 1), 0, False),
        ([Refused("answered 404", None, 404), Delivered(200)], (0, 0, 1), 0, True),
        ([Failed("answered 500", None, 500), Delivered(200), Rejected("no", 422)], (0, 1, 0), 0, True),
        ([Rejected("cannot be sent", None)], (0, 0, 0), 1, False),
        ([Rejected("cannot be sent", None), Delivered(200)], (1, 0, 0), 0, True),
        ([Failed("answered 500", None, 500), NotSent("one before it failed")], (0, 1, 0), 0, False),
    ],
)
async def test_a_post_counts_once_by_its_worst_outcome(
    permits: Permits, outcomes: list[Outcome], counted: tuple[int, int, int], unused: int, ok: bool
) -> None:
    permits.count(7, [delivery(str(i)) for i in range(len(outcomes))], outcomes, 10.0)
    (report,) = permits.take_reports().values()
    assert (report.successes, report.failures, report.refusals) == counted
    assert (report.unused, report.ok_at > 0) == (unused, ok)


async def test_unused_permits_are_given_back_only_where_they_are_scarce(permits: Permits) -> None:
    await permits.ask(1)
    permits.give_back(permits.admission.generation, 3)
    assert permits.take_reports() == {}
