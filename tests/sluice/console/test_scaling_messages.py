from __future__ import annotations

from sluice.console.status import ScalingStatus, WorkerStatus
from tests.sluice.console.saying import said


def worker(drains_s: float | None, sessions: int = 2) -> WorkerStatus:
    return WorkerStatus("w3", "http://w3", False, sessions, 10, False, 1.0, 14.0, drains_s=drains_s)


def test_creates_that_found_no_room() -> None:
    scaling = ScalingStatus(5, 3, 33, 0, 3, 10.0, full=False)
    assert said(scaling=scaling) == [
        "3 creates were refused within the last minute, as no worker has room: start 2 more workers of yours "
        "(docs/workers.md), or raise sessions.per_worker"
    ]


def test_that_more_workers_would_be_better_needs_nobody_while_there_is_room() -> None:
    assert said(scaling=ScalingStatus(4, 3, 29, 0, 0, 10.0, full=False)) == []


def test_that_more_are_wanted_than_sluice_up_may_start() -> None:
    assert said(scaling=ScalingStatus(4, 3, 29, 0, 0, 10.0, full=False, most=3)) == [
        "4 workers are wanted for 29 sessions, and sluice up starts 3 at most: give it a higher --workers, or raise "
        "sessions.per_worker"
    ]
    assert said(scaling=ScalingStatus(4, 3, 29, 0, 0, 10.0, full=False, most=4)) == []


def test_a_worker_that_does_not_become_empty() -> None:
    assert said(workers=(worker(720.0),)) == [
        "worker w3 drains for 12m and has 2 sessions still, for which no other worker has room, or which it does not "
        "stop: sluice sessions list --worker w3"
    ]


def test_a_worker_that_drains_as_it_should() -> None:
    assert said(workers=(worker(60.0),)) == []
    assert said(workers=(worker(720.0, sessions=0),)) == []
