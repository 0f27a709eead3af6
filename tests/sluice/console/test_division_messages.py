from __future__ import annotations

import pytest

from sessions.existing import WatchedWorker
from sessions.policies import ExistingWorker, SessionsPolicy
from sessions.shields import Shields
from sluice.console.actions.division import division_of
from sluice.console.status import DivisionStatus, UndividedWorker
from tests.sluice.console.saying import said

NOW = 100_000.0


def worker(name: str, prefix: str = "/w/x") -> ExistingWorker:
    return ExistingWorker(f"http://{name}:1", name=name, prefix=prefix)


def policy(*workers: ExistingWorker, divide: bool = True) -> SessionsPolicy:
    return SessionsPolicy(workers=workers, shields=Shields(divide=divide))


BOTH = policy(worker("w1"), worker("w2"))


def seen(name: str, began: float | None = NOW - 300, why: str | None = None, *, several: bool = False) -> WatchedWorker:
    return WatchedWorker(name, f"http://{name}:1", True, why, NOW, began=began, several=several)


def test_a_worker_without_a_prefix() -> None:
    assert said(division=DivisionStatus(without_prefix=("w3",))) == [
        "worker w3 of sessions.workers has no prefix, so when it starts it starts the sessions of all workers: give it "
        "one there, such as prefix: /w/w1, and put the same at the end of its LARAVEL_URL"
    ]


def test_a_worker_that_did_not_ask_here() -> None:
    assert said(division=DivisionStatus(undivided=(UndividedWorker("w1", "/w/w1", 300.0),))) == [
        "worker w1 was started 5m ago and did not get the list of its sessions here, so it runs those of all workers, "
        "or none: let its LARAVEL_URL end with /w/w1, and start it again"
    ]


@pytest.mark.parametrize(
    ("told", "undivided"),
    [({}, True), ({"w1": NOW - 3000}, True), ({"w1": NOW - 298}, False), ({"w1": NOW - 10}, False), (None, False)],
)
def test_a_worker_is_told_after_it_was_started(told: dict[str, float] | None, *, undivided: bool) -> None:
    found = division_of(BOTH, [seen("w1")], told, NOW)
    assert found == DivisionStatus(undivided=(UndividedWorker("w1", "/w/x", 300.0),) if undivided else ())


@pytest.mark.parametrize(
    "one",
    [
        seen("w1", began=NOW - 20),
        seen("w1", began=None),
        seen("w1", why="no answer"),
        seen("w1", several=True),
        seen("gone"),
    ],
)
def test_what_is_not_known_of_a_worker_is_not_said(one: WatchedWorker) -> None:
    """One that was just started may still ask; several behind one address are told of otherwise."""
    assert division_of(BOTH, [one], {}, NOW) == DivisionStatus()


@pytest.mark.parametrize(
    ("sessions", "found"),
    [
        (policy(worker("w1", ""), worker("w2")), DivisionStatus(without_prefix=("w1",))),
        (policy(worker("w1", "")), DivisionStatus()),
        (policy(worker("w1", ""), worker("w2"), divide=False), DivisionStatus()),
        (policy(), DivisionStatus()),
    ],
)
def test_the_policies_alone_say(sessions: SessionsPolicy, found: DivisionStatus) -> None:
    """One worker alone may start all there is."""
    assert division_of(sessions, [], {}, NOW) == found
