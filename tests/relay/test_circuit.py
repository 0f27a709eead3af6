from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from relay.circuit import Admission, Circuit, Report
from relay.policies import CircuitPolicy
from sluice.config import Rate
from sluice.store.client import Store
from tests.waiting import until

pytestmark = pytest.mark.anyio

POLICY = CircuitPolicy(window=30, minimum=10, ratio=0.5, open=0.1, cap=0.3, probes=3)


@pytest.fixture
def circuit(store: Store) -> Circuit:
    return Circuit(store, "laravel", POLICY, None, probe_lease=0.1)


def failed(times: int = 1, *keys: str, why: str = "answered 500") -> Report:
    return Report(failures=times, why=why, keys=dict.fromkeys(keys or ("a", "b", "c")), statuses={500: times})


def went_well(times: int = 1) -> Report:
    return Report(successes=times, ok_at=time.time())


async def opened(circuit: Circuit) -> Admission:
    """As many sessions failed."""
    generation = (await circuit.admit(1)).generation
    return await circuit.admit(1, [(generation, failed(10))])


async def half_open(circuit: Circuit, want: int = 1) -> Admission:
    seen: list[Admission] = []

    async def probing() -> bool:
        seen.append(await circuit.admit(want))
        return seen[-1].state == "half-open"

    await until(probing)
    return seen[-1]


async def test_a_closed_circuit_lets_everything_through(circuit: Circuit) -> None:
    admission = await circuit.admit(500)
    assert (admission.state, admission.permits) == ("closed", 500)


async def test_few_failures_do_not_open_it(circuit: Circuit) -> None:
    generation = (await circuit.admit(9)).generation
    assert (await circuit.admit(1, [(generation, Report(failures=9))])).state == "closed"


async def test_failures_below_the_ratio_do_not_open_it(circuit: Circuit) -> None:
    generation = (await circuit.admit(100)).generation
    assert (await circuit.admit(1, [(generation, Report(successes=60, failures=40))])).state == "closed"


async def test_the_ratio_over_the_minimum_opens_it_and_nothing_is_let_through(circuit: Circuit) -> None:
    admission = await opened(circuit)
    assert (admission.state, admission.permits) == ("open", 0)
    assert 0 < admission.wait <= 0.1
    view = await circuit.view()
    assert (view.state, view.why) == ("open", "answered 500")


async def test_not_now_opens_it_at_once_for_as_long_as_was_asked(store: Store) -> None:
    circuit = Circuit(store, "laravel", replace(POLICY, cap=60.0), None, probe_lease=0.1)
    generation = (await circuit.admit(1)).generation
    admission = await circuit.admit(1, [(generation, Report(failures=1, paused=True, min_pause=7, why="answered 429"))])
    assert admission.state == "open"
    assert 6.5 < admission.wait <= 7


@pytest.mark.parametrize(("cap", "at_most"), [(5.0, 5.0), (10.0**8, 3600.0)])
@pytest.mark.parametrize("asked", [999 * 86400.0, 11_574 * 86400.0])
async def test_not_now_for_years_is_capped(store: Store, cap: float, at_most: float, asked: float) -> None:
    circuit = Circuit(store, "laravel", replace(POLICY, cap=cap), None, probe_lease=0.1)
    generation = (await circuit.admit(1)).generation
    admission = await circuit.admit(1, [(generation, Report(failures=1, paused=True, min_pause=asked))])
    assert at_most - 1 < admission.wait <= at_most


async def test_refusals_and_rejections_beside_successes_do_not_open_it(store: Store) -> None:
    circuit = Circuit(store, "laravel", replace(POLICY, window=0.05), None, probe_lease=0.1)
    generation = (await circuit.admit(1)).generation
    for _ in range(10):
        reports = [(generation, refused(50)), (generation, went_well())]
        assert (await circuit.admit(1, reports)).state == "closed"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("keys", [("a",), ("a", "b"), ("a", "b", "c", "d")])
async def test_refusals_alone_open_it_after_a_window_without_a_2xx(store: Store, keys: tuple[str, ...]) -> None:
    circuit = Circuit(store, "laravel", replace(POLICY, window=0.3), None, probe_lease=0.1)
    generation = (await circuit.admit(1)).generation
    began = time.monotonic()
    while (admission := await circuit.admit(1, [(generation, refused(1, *keys))])).state == "closed":
        await asyncio.sleep(0.02)
    assert 0.25 < time.monotonic() - began < 2.0
    assert (admission.state, admission.opened) == ("open", "nobody")


def refused(times: int = 1, *keys: str) -> Report:
    return Report(refusals=times, why="answered 404", keys=dict.fromkeys(keys or ("a",)), statuses={404: times})


async def test_while_few_sessions_fail_it_opens_for_the_shortest_time_and_one_2xx_closes_it(store: Store) -> None:
    circuit = Circuit(store, "laravel", replace(POLICY, window=0.01, cap=60.0), None, probe_lease=0.1)
    generation = (await circuit.admit(1)).generation
    await circuit.admit(1, [(generation, refused(1, "a"))])
    await asyncio.sleep(0.05)
    await circuit.admit(1, [(generation, refused(1, "a"))])
    for _ in range(4):
        probes = await half_open(circuit, want=3)
        assert (await circuit.admit(1, [(probes.generation, refused(1, "a"))])).wait <= 0.1
    probes = await half_open(circuit, want=3)
    closed = await circuit.admit(1, [(probes.generation, went_well())])
    assert (closed.state, closed.slow_start_left) == ("closed", 0)


async def test_the_2xx_of_an_earlier_attempt_closes_what_a_poisonous_probe_has_opened(store: Store) -> None:
    circuit = Circuit(store, "laravel", replace(POLICY, open=60.0, cap=60.0), None, probe_lease=0.1)
    generation = (await circuit.admit(2)).generation
    assert (await circuit.admit(1, [(generation, failed(10, "a"))])).state == "open"
    assert (await circuit.admit(1, [(generation, went_well())])).state == "closed"


async def test_a_probe_that_fails_beside_one_that_succeeds_does_not_open_it_again(circuit: Circuit) -> None:
    await opened(circuit)
    probes = await half_open(circuit, want=3)
    after = await circuit.admit(0, [(probes.generation, went_well()), (probes.generation, failed(1, "a"))])
    assert after.state == "half-open"
    assert (await circuit.admit(0, [(probes.generation, went_well(2))])).state == "closed"


async def test_probes_that_all_fail_again_after_one_that_succeeded_open_it(circuit: Circuit) -> None:
    await opened(circuit)
    probes = await half_open(circuit, want=3)
    await circuit.admit(0, [(probes.generation, went_well())])
    assert (await circuit.admit(0, [(probes.generation, failed(3, "a", "b", "c"))])).state == "open"


async def test_every_process_learns_when_somebody_got_through_last(store: Store, circuit: Circuit) -> None:
    assert (await circuit.admit(1)).ok_at == 0
    generation = (await circuit.admit(1)).generation
    await circuit.admit(1, [(generation, Report(successes=1, ok_at=time.time() - 2.0))])
    await circuit.hold("open", "")
    other = await Circuit(store, "laravel", POLICY, None, probe_lease=0.1).admit(1)
    assert 1.9 < other.now - other.ok_at < 2.5
    await circuit.admit(1, [(generation, went_well())])
    assert (await circuit.admit(1)).ok_at > other.ok_at, "also while it is held, and by an attempt from before"


async def test_half_open_lets_exactly_the_probes_through_however_many_ask(circuit: Circuit) -> None:
    await opened(circuit)
    first = await half_open(circuit, want=1)
    many = await asyncio.gather(*(circuit.admit(5) for _ in range(50)))
    assert first.permits + sum(one.permits for one in many) == 3


async def test_all_probes_well_close_it(circuit: Circuit) -> None:
    await opened(circuit)
    probes = await half_open(circuit, want=3)
    assert (await circuit.admit(1, [(probes.generation, went_well(2))])).state == "half-open"
    assert (await circuit.admit(1, [(probes.generation, went_well(1))])).state == "closed"


async def test_one_failed_probe_opens_it_for_longer_up_to_the_cap(circuit: Circuit) -> None:
    await opened(circuit)
    waits = []
    for _ in range(3):
        probes = await half_open(circuit)
        waits.append((await circuit.admit(1, [(probes.generation, failed())])).wait)
    assert 0.15 < waits[0] <= 0.2
    assert 0.25 < waits[1] <= 0.3
    assert 0.25 < waits[2] <= 0.3


async def test_results_of_an_older_generation_are_ignored(circuit: Circuit) -> None:
    old = (await circuit.admit(10)).generation
    await opened(circuit)
    probes = await half_open(circuit)
    after = await circuit.admit(1, [(old, Report(failures=10, paused=True))])
    assert (after.state, after.generation) == ("half-open", probes.generation)


async def test_probes_lost_with_their_process_are_handed_out_again(circuit: Circuit) -> None:
    await opened(circuit)
    assert (await half_open(circuit, want=3)).permits == 3
    assert (await circuit.admit(3)).permits == 0
    permits: list[int] = []

    async def given_again() -> bool:
        permits.append((await circuit.admit(3)).permits)
        return permits[-1] == 3

    await until(given_again)


async def test_unused_probes_are_given_back(circuit: Circuit) -> None:
    await opened(circuit)
    probes = await half_open(circuit, want=3)
    assert (await circuit.admit(3, [(probes.generation, Report(unused=2))])).permits == 2


async def test_the_pace_is_never_exceeded_and_says_when_to_come_back(store: Store) -> None:
    circuit = Circuit(store, "paced", POLICY, Rate(600, 60), probe_lease=1)
    assert (await circuit.admit(100)).permits == 10
    later = await circuit.admit(100)
    assert later.permits <= 1
    assert 0 < later.wait <= 0.1 or later.permits == 1


async def test_permits_not_used_are_the_pace_s_again(store: Store) -> None:
    circuit = Circuit(store, "paced", POLICY, Rate(60, 60), probe_lease=1)
    first = await circuit.admit(5)
    assert first.permits == 1
    assert (await circuit.admit(5, [(first.generation, Report(unused=1))])).permits == 1


async def test_asking_for_nothing_costs_nothing_and_needs_no_coming_back(circuit: Circuit) -> None:
    await opened(circuit)
    await half_open(circuit)
    assert (await circuit.admit(0)).permits == 0
    assert (await circuit.admit(0)).wait == float("inf")


async def test_held_open_it_lets_nothing_through_until_it_is_let_go_and_then_probes_first(circuit: Circuit) -> None:
    assert await circuit.hold("open", "the receiver moves house")
    assert not await circuit.hold("open", "again")
    admission = await circuit.admit(5)
    assert (admission.state, admission.permits, admission.wait) == ("open", 0, 1.0)
    view = await circuit.view()
    assert (view.state, view.held, view.why) == ("open", True, "the receiver moves house")
    assert await circuit.release()
    assert not await circuit.release()
    assert ((await circuit.admit(5)).state, (await circuit.view()).held) == ("half-open", False)


async def test_held_closed_it_lets_everything_through_whatever_comes_of_it(circuit: Circuit) -> None:
    await opened(circuit)
    await circuit.hold("closed", "we know")
    admission = await circuit.admit(5)
    assert (admission.state, admission.permits) == ("closed", 5)
    after = await circuit.admit(5, [(admission.generation, Report(failures=100, paused=True, min_pause=60))])
    assert (after.state, after.permits) == ("closed", 5)
    await circuit.release()
    assert (await circuit.admit(5)).permits == 5


async def test_what_was_sent_before_it_was_held_does_not_count_afterwards(circuit: Circuit) -> None:
    old = (await circuit.admit(10)).generation
    await circuit.hold("closed", "")
    await circuit.release()
    assert (await circuit.admit(1, [(old, Report(failures=10, paused=True))])).state == "closed"


async def test_after_closing_it_says_how_long_to_go_slowly(store: Store) -> None:
    circuit = Circuit(store, "slow", replace(POLICY, slow_start=5.0), None, probe_lease=0.1)
    assert (await circuit.admit(1)).slow_start_left == 0, "it has never been open"
    await opened(circuit)
    probes = await half_open(circuit, want=3)
    assert probes.slow_start_left == 0
    closed = await circuit.admit(1, [(probes.generation, went_well(3))])
    assert closed.state == "closed"
    assert 4.5 < closed.slow_start_left <= 5.0
