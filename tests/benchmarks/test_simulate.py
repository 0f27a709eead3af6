"""The simulation of benchmarks/simulate.py: it agrees with theory, loses nothing, and is the same for one seed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from simulating.costs import Costs
from simulating.engine import Simulation, Station, share
from simulating.flow import Flow, Situation, flow, knee
from simulating.needs import Load, ceiling, in_flight, parts
from simulating.region import Loss, recover

ROOT = Path(__file__).parents[2]
FREE = Costs(accept_gateway=0.0, accept_store=0.0, deliver_relay=0.0, deliver_store=0.0, pickup=0.0)


def waits(*, exponential: bool, busy: float, customers: int = 200_000) -> float:
    """How long one waits on average before one server that takes a second on average."""
    simulation, random, waited = Simulation(), Random(7), [0.0, 0.0]
    station = Station(simulation, 1)

    def come() -> None:
        if station.arrived < customers:
            simulation.after(random.expovariate(busy), come)
            began, seconds = simulation.now, random.expovariate(1.0) if exponential else 1.0
            station.serve(seconds, lambda: note(began, seconds))

    def note(began: float, seconds: float) -> None:
        waited[0] += simulation.now - began - seconds
        waited[1] += 1

    come()
    simulation.run()
    return waited[0] / waited[1]


def test_one_server_with_random_times_agrees_with_theory() -> None:
    """M/M/1: the mean wait is busy / (1 - busy) service times."""
    assert waits(exponential=True, busy=0.7) == pytest.approx(0.7 / 0.3, rel=0.06)


def test_one_server_with_a_fixed_time_agrees_with_theory() -> None:
    """M/D/1: half of that (Pollaczek and Khinchine)."""
    assert waits(exponential=False, busy=0.7) == pytest.approx(0.7 / 0.3 / 2, rel=0.06)


def test_what_is_planned_for_one_moment_happens_in_the_order_in_which_it_was_planned() -> None:
    simulation, seen = Simulation(), list[int]()
    for number in range(50):
        simulation.after(1.0, lambda number=number: seen.append(number))
    simulation.run()
    assert seen == list(range(50))


def test_a_station_never_serves_more_than_it_has_servers() -> None:
    simulation = Simulation()
    station = Station(simulation, 3)
    for _ in range(10):
        station.serve(1.0, lambda: None)
    assert (station.inside, station.waiting) == (10, 7)
    simulation.run()
    assert (simulation.now, station.served, station.inside) == (4.0, 10, 0)
    assert station.utilization(simulation.now) == pytest.approx(10 / 12)


@pytest.mark.parametrize("cohort", [1, 10])
@pytest.mark.parametrize("away", [(0.0, 0.0), (2.0, 5.0)])
def test_every_event_that_comes_in_is_delivered(cohort: int, away: tuple[float, float]) -> None:
    it = Flow(Situation(400.0, 10.0, 0.02, concurrency=40, away=away, cohort=cohort), Costs())
    outcome = it.run()
    assert outcome.delivered == outcome.accepted == it.gateways.served * cohort
    assert outcome.accepted == pytest.approx(4000, rel=0.1)
    assert it.inside == 0
    assert not any(it.sessions.values())


def test_one_session_has_one_event_under_way() -> None:
    """So with one session a receiver of a tenth of a second gets ten a second, however many places there are."""
    outcome = flow(Situation(50.0, 10.0, 0.1, concurrency=64, sessions=1), FREE)
    assert outcome.delivered / outcome.ended_at == pytest.approx(10.0, rel=0.02)


def test_the_backlog_grows_from_where_the_places_are_full() -> None:
    given = Situation(1.0, 20.0, 0.05, concurrency=16)
    most = knee(given, FREE)
    assert most == pytest.approx(16 / 0.05, rel=0.03)
    below, above = (flow(replace(given, rate=part * most), FREE) for part in (0.8, 1.2))
    assert below.waiting < 60
    assert above.waiting == pytest.approx(0.2 * most * 20.0, rel=0.25)


def test_a_backlog_drains_in_the_time_that_arithmetic_gives() -> None:
    outcome = flow(Situation(200.0, 30.0, 0.05, concurrency=16, away=(5.0, 10.0)), FREE)
    assert outcome.drained_at - 10.0 == pytest.approx(5.0 * 200 / (320 - 200), rel=0.15)


def test_a_seed_replays_a_run() -> None:
    given = Situation(300.0, 5.0, 0.03, concurrency=8)
    assert flow(given, Costs()) == flow(given, Costs())
    assert flow(given, Costs()) != flow(replace(given, seed=2), Costs())
    loss = Loss(workers=30, lost=10, each=20, gateways=2, start=1.0)
    assert recover(loss, Costs()) == recover(loss, Costs())


def test_every_session_of_a_lost_region_runs_again_and_not_before_a_lease_can_be_over() -> None:
    loss = Loss(workers=30, lost=10, each=20, gateways=2, start=1.0)
    found = recover(loss, Costs())
    assert found.sessions == 200
    assert 10.0 < found.half <= found.most <= found.all
    assert found.granted < found.all


def test_few_workers_that_are_left_bound_how_fast_orphans_are_granted() -> None:
    """One gateway gives one worker eight in a round of a fifth of a second."""
    found = recover(Loss(workers=2, lost=1, each=400, gateways=1, lease=3.0), Costs())
    assert found.granted == pytest.approx(2.5 + 400 / 8 * 0.2, abs=1.5)


def test_what_is_full_first_stands_first_and_a_ceiling_is_where_it_is_full() -> None:
    sessions, events = ceiling(Costs())
    by_name = {part.name: part for part in parts(Load(sessions, events), Costs())}
    assert by_name["registry of sessions, in the store"].filled == pytest.approx(1.0, rel=0.01)
    assert by_name["queue, in the store"].filled == pytest.approx(1.0, rel=0.01)
    found = parts(Load(sessions * 10, 100.0), Costs())
    assert found[0].name == "registry of sessions, in the store"
    assert in_flight(Load(1, 700.0, receiver=0.1)) == 100


def test_share_is_that_of_a_sorted_list() -> None:
    assert [share([1.0, 2.0, 3.0, 4.0], part) for part in (0.0, 0.5, 1.0)] == [1.0, 3.0, 4.0]
    assert share([], 0.5) == 0.0


def test_the_command_says_what_is_needed_as_json(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/simulate.py", "--sessions", "5000", "--events", "500", "--cells", "2"]
    file = tmp_path / "found.json"
    run = subprocess.run([*command, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    assert "full first" in run.stdout
    found = json.loads(file.read_text())
    assert found["region"]["all"] > 10
    assert found["flow"]["accepted"] == found["flow"]["delivered"]
