from __future__ import annotations

import asyncio
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


async def opened(circuit: Circuit) -> Admission:
    generation = (await circuit.admit(1)).generation
    return await circuit.admit(1, [(generation, Report(failures=10, why="answered 500"))])


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


async def test_not_now_opens_it_at_once_for_as_long_as_was_asked(circuit: Circuit) -> None:
    generation = (await circuit.admit(1)).generation
    admission = await circuit.admit(1, [(generation, Report(failures=1, paused=True, min_pause=7, why="answered 429"))])
    assert admission.state == "open"
    assert 6.5 < admission.wait <= 7


async def test_half_open_lets_exactly_the_probes_through_however_many_ask(circuit: Circuit) -> None:
    await opened(circuit)
    first = await half_open(circuit, want=1)
    many = await asyncio.gather(*(circuit.admit(5) for _ in range(50)))
    assert first.permits + sum(one.permits for one in many) == 3


async def test_all_probes_well_close_it(circuit: Circuit) -> None:
    await opened(circuit)
    probes = await half_open(circuit, want=3)
    assert (await circuit.admit(1, [(probes.generation, Report(successes=2))])).state == "half-open"
    assert (await circuit.admit(1, [(probes.generation, Report(successes=1))])).state == "closed"


async def test_one_failed_probe_opens_it_for_longer_up_to_the_cap(circuit: Circuit) -> None:
    await opened(circuit)
    waits = []
    for _ in range(3):
        probes = await half_open(circuit)
        waits.append((await circuit.admit(1, [(probes.generation, Report(failures=1))])).wait)
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
    closed = await circuit.admit(1, [(probes.generation, Report(successes=3))])
    assert closed.state == "closed"
    assert 4.5 < closed.slow_start_left <= 5.0
