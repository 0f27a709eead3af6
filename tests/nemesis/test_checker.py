"""The checker finds each fault in a history that has it, and none in one that has not."""

from __future__ import annotations

from typing import Any

from tests.nemesis.checker import check

W1: dict[str, Any] = {"worker": "w1", "pid": 1}
W2: dict[str, Any] = {"worker": "w2", "pid": 2}


def entry(at: float, kind: str, session: str = "s1", **about: Any) -> dict[str, Any]:
    return {"at": at, "kind": kind, "session": session, **about}


def answers(*moments: float) -> list[dict[str, Any]]:
    return [entry(at, "answer", status=200, began=at) for at in moments]


GOOD = [
    entry(0.0, "login", fence=10, **W1),
    entry(1.0, "act", fence=10, event="e1", **W1),
    entry(1.1, "accepted", event="e1", status=202),
    entry(1.2, "delivered", event="e1", fence=10, worker="w1"),
    entry(3.0, "login", fence=20, **W2),
    entry(3.1, "act", fence=20, event="e2", **W2),
    entry(3.2, "accepted", event="e2", status=202),
    entry(3.3, "delivered", event="e2", fence=20, worker="w2"),
    entry(3.4, "delivered", event="e1", fence=10, worker="w1"),
    *answers(1.0, 3.5),
    entry(4.0, "status", status=200),
]


def wrong(*more: dict[str, Any], longest_gap: float = 5.0) -> tuple[str, ...]:
    entries = sorted([*GOOD, *more], key=lambda one: one["at"])
    return check(entries, longest_gap=longest_gap, own=["s1"]).wrong


def test_a_good_history_has_nothing_wrong_and_a_repeat_of_an_event_is_no_fall_of_its_fence() -> None:
    assert wrong() == ()


def test_a_fence_that_falls_is_found() -> None:
    assert wrong(entry(5.0, "delivered", event="e3", fence=10, worker="w1")) == ("s1: fence 10 was delivered after 20",)


def test_a_fence_that_two_have_is_found() -> None:
    assert wrong(entry(3.05, "login", fence=20, **W1)) == ("s1: fence 20 was acted under by [('w1', 1), ('w2', 2)]",)


def test_an_act_after_that_of_the_next_owner_is_found() -> None:
    assert wrong(entry(3.6, "act", fence=10, event="e3", **W1)) == ("s1: w1 acted 0.500 s after w2, which has it",)


def test_a_login_that_ran_twice_is_found() -> None:
    assert wrong(entry(5.0, "double", workers=["x1", "x2"])) == ("s1: its login ran twice, at ['x1', 'x2']",)


def test_an_event_that_was_accepted_and_not_delivered_is_found() -> None:
    assert wrong(entry(5.0, "accepted", event="e9", status=202)) == ("e9: it was accepted and never delivered",)


def test_a_status_that_is_not_2xx_is_found() -> None:
    assert wrong(entry(5.0, "status", status=503)) == ("s1: its status was answered 503",)


def test_a_gap_is_found_and_an_outage_in_it_does_not_count() -> None:
    late = answers(10.5)
    assert wrong(*late) == ("s1: no answer for 7.00 s",)
    assert wrong(*late, entry(4.0, "outage", until=6.0, why="x"), entry(5.0, "outage", until=7.0, why="y")) == ()


def test_a_session_that_was_never_answered_is_found() -> None:
    assert check(GOOD, longest_gap=5.0, own=["s2"]).wrong == ("s2: no answer for inf s",)
