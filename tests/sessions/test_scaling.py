"""How many workers are wanted."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given, strategies as st

from sessions.records import Summary, WorkerRow
from sessions.scaling import DOWN, MOST, STABLE, STEP, UP, Demand, Wanted, demand_of, want

EACH = 10.0


def demand(sessions: int, *, live: int = 2, full: bool = False, each: float = EACH) -> Demand:
    return Demand(sessions, 0, 0, each, live, full)


def run(sessions: list[int], before: Wanted | None = None, *, each: float = EACH) -> list[int]:
    """What is wanted, second by second."""
    wanted, found = before, []
    for second, number in enumerate(sessions):
        wanted = want(wanted, demand(number, each=each), 1000.0 + second)
        found.append(wanted.workers)
    return found


def turns(numbers: list[int]) -> int:
    """How often the direction changes."""
    steps = [after - before for before, after in pairwise(numbers) if after != before]
    return sum((one > 0) != (other > 0) for one, other in pairwise(steps))


def test_there_are_more_at_once_where_over_four_fifths_are_wanted() -> None:
    assert run([16], Wanted(2)) == [2]
    assert run([17], Wanted(2)) == [3]
    assert run([80], Wanted(2)) == [10]


def test_there_are_fewer_one_at_a_time_after_a_while() -> None:
    found = run([10] * 40, Wanted(5))
    stable, step = round(STABLE), round(STEP)
    assert found[:stable] == [5] * stable
    assert found[stable : stable + step] == [4] * step
    assert found[stable + step] == 3
    assert found[-1] == 2, "half of what two can run is not too little"


def test_a_short_lull_changes_nothing() -> None:
    assert set(run(([20] + [5] * 15) * 5, Wanted(3))) == {3}


def test_a_step_down_is_not_undone_where_one_less_would_be_too_few() -> None:
    assert run([9] * 100, Wanted(2)) == [2] * 100, "nine of ten is over four fifths, though it is under half of twenty"
    assert run([8] * 100, Wanted(2))[-1] == 1


def test_one_more_is_wanted_where_all_are_full_by_their_own_account() -> None:
    assert want(Wanted(3), demand(9, live=3, full=True), 0.0).workers == 4
    assert want(Wanted(4), demand(9, live=3, full=True), 0.0).workers == 4, "it has not come yet"


def test_there_is_always_one_and_never_more_than_so_many() -> None:
    assert run([0] * 100, Wanted(2))[-1] == 1
    assert want(None, demand(10**9), 0.0).workers == MOST


def test_a_clock_that_was_set_back_does_not_stop_it() -> None:
    low = want(Wanted(5), demand(10), 10_000.0)
    again = want(low, demand(10), 100.0)
    assert want(again, demand(10), 100.0 + STABLE).workers == 4


@given(st.integers(0, 500), st.integers(1, 60), st.integers(1, 60))
def test_a_load_that_does_not_change_is_followed_in_one_direction(load: int, each: int, first: int) -> None:
    found = run([load] * 400, Wanted(first), each=float(each))
    assert turns(found) == 0
    assert found[-1] == found[-50], "it ends"


@given(st.lists(st.integers(0, 300), min_size=1, max_size=300), st.integers(1, 60))
def test_there_are_never_fewer_than_hold_the_sessions(loads: list[int], each: int) -> None:
    for load, workers in zip(loads, run(loads, each=float(each)), strict=True):
        assert workers * each >= min(load, MOST * each)


@given(st.integers(20, 400), st.integers(0, 2**32))
def test_a_load_that_is_never_quite_the_same_does_not_make_it_flap(load: int, seed: int) -> None:
    loads = [round(load * (1 + 0.1 * math.sin(seed + second))) for second in range(400)]
    assert turns(run(loads)) <= 1


@given(st.integers(4, 60), st.integers(0, 20))
def test_a_load_that_rises_and_falls_by_a_factor_of_four_is_followed_within_a_minute(low: int, slack: int) -> None:
    loads = [low] * 90 + [4 * low] * 60 + [low] * 60
    found = run(loads, each=float(4 + slack))
    each = 4 + slack
    assert 4 * low <= UP * each * found[149] + 1e-6
    assert turns(found[90:150]) == 0
    assert turns(found[150:]) == 0
    many, few = found[149], found[-1]
    steps = (60 - STABLE) // STEP
    assert low >= DOWN * each * few or few == found[89] or many - few >= steps or low > UP * each * (few - 1)


def row(name: str, sessions: int, *, existing: bool = False, left: float = 5.0, **more: object) -> WorkerRow:
    return WorkerRow(name, f"http://{name}", 10, sessions, existing, left, **more)  # type: ignore[arg-type]


def test_what_existing_workers_have_and_wait_for_is_not_wanted_of_ours() -> None:
    workers = (row("a", 3, reserved=1), row("b", 2, drains=1.0), row("old", 7, existing=True, waiting=2))
    seen = Summary(17, 5, 0, {}, workers)
    found = demand_of(seen, 4, 25)
    assert (found.sessions, found.unowned, found.unplaced) == (5 + 1 + 3 + 4, 3, 4)
    assert (found.per_worker, found.live) == (10.0, 1), "one that drains does not count"


def test_what_a_lost_worker_had_is_wanted() -> None:
    found = demand_of(Summary(5, 0, 0, {}, (row("a", 5, left=0.0),)), 0, 25)
    assert (found.sessions, found.unowned, found.per_worker, found.live) == (5, 5, 25.0, 0)


def test_all_are_full_only_where_each_has_sessions() -> None:
    full = row("a", 3, cpu=0.95)
    assert demand_of(Summary(3, 0, 0, {}, (full,)), 0, 25).full
    assert not demand_of(Summary(3, 0, 0, {}, (full, row("b", 0, memory=0.95))), 0, 25).full
