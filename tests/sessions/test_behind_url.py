from __future__ import annotations

import math

import pytest
from hypothesis import example, given, strategies as st

from sessions.behind_url import KEPT, Began, began, several_began, several_list

SECONDS = st.floats(0.0, 1000.0)


def samples(starts: list[float], *, every: float = 5.0, took: float = 0.02, whole: bool = False) -> list[Began]:
    """What is seen when one process after the other answers, each of which began at one of these moments."""
    found = []
    for i, start in enumerate(starts):
        sent = 2000.0 + i * every
        uptime = sent + took / 3 - start
        sample = began(sent, sent + took, math.floor(uptime) if whole else uptime)
        assert sample
        found.append(sample)
    return found


@pytest.mark.parametrize("whole", [False, True])
def test_one_process_is_one(whole: bool) -> None:
    assert not several_began(samples([1000.3] * KEPT, whole=whole))


@pytest.mark.parametrize("whole", [False, True])
def test_one_that_is_started_again_is_one(whole: bool) -> None:
    assert not several_began(samples([1000.3] * 5 + [1900.1] * 5 + [1990.7] * 5, whole=whole))


@pytest.mark.parametrize("starts", [(1000.0, 1000.9), (1000.0, 1900.0), (1000.0, 1001.0, 1002.0, 1003.0)])
def test_several_that_take_turns_are_several(starts: tuple[float, ...]) -> None:
    turns = [starts[i % len(starts)] for i in range(8)]
    assert several_began(samples(turns))


def test_two_of_which_one_seldom_answers_are_several() -> None:
    assert several_began(samples([1000.0] * 10 + [1003.0] + [1000.0] * 10))


def test_several_whose_uptime_has_whole_seconds_are_several() -> None:
    assert several_began(samples([1000.0, 1010.0] * 3, whole=True))


def test_a_machine_that_slept_is_no_other_process() -> None:
    """Ours: all that went on meanwhile seem to have begun earlier from then on; theirs: later."""
    assert not several_began(samples([1000.0] * 5 + [400.0] * 5))
    assert not several_began(samples([1000.0] * 5 + [1600.0] * 5))


@example(polls=[(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (14.0, 1.0)], restarts={1, 2})
@given(st.lists(st.tuples(st.floats(0, 15), st.floats(0, 1)), min_size=2, max_size=KEPT), st.sets(st.integers(1, 23)))
def test_one_process_is_one_however_slowly_it_answers_and_whenever_it_restarts(
    polls: list[tuple[float, float]], restarts: set[int]
) -> None:
    now, start, found = 5000.0, 100.0, []
    for i, (took, part) in enumerate(polls):
        if i in restarts:
            now += 10.0
            start = now - 5.0
        sample = began(now, now + took, now + took * part - start)
        assert sample
        found.append(sample)
        now += took + 5.0
    assert not several_began(found)


@pytest.mark.parametrize("uptime", [None, True, "12", -1.0, math.nan, math.inf, 10**12, {}])
def test_what_is_no_uptime_says_nothing(uptime: object) -> None:
    assert began(10.0, 10.1, uptime) is None


def test_lists_that_return_again_and_again_are_of_several() -> None:
    assert several_list([1, 2] * 4)
    assert several_list([1, 2, 3] * 3)


def test_sessions_that_come_and_go_are_of_one() -> None:
    assert not several_list([1] * 12)
    assert not several_list([1, 2, 3, 4, 5, 6, 7])
    assert not several_list([1, 1, 2, 1, 1, 1, 2, 1, 1]), "somebody made one session connect anew, twice"
