from __future__ import annotations

from typing import Any

import pytest

from sessions.orphans import NEXT, NO_ROOM, NO_WORKER, Fleet, why_orphaned
from sessions.records import SessionRow, WorkerRow


def row(**more: Any) -> SessionRow:
    known = {"session": "s1", "about": {}, "workspace": None, "state": "connected", "phone": None, "since": 0.0}
    nobody = {"worker": None, "url": None, "fence": None, "lease_left": None}
    return SessionRow(**(known | nobody | more))


def fleet(*workers: WorkerRow, named: tuple[str, ...] = ("w1",)) -> Fleet:
    return Fleet({one.worker: one for one in workers}, named)


def worker(name: str, *, existing: bool = False, left: float = 5.0, sessions: int = 0, **more: Any) -> WorkerRow:
    return WorkerRow(name, f"http://{name}:3000", 2, sessions, existing, left, **more)


@pytest.mark.parametrize(
    ("fleet", "why"),
    [
        (fleet(), NO_WORKER),
        (fleet(worker("a", left=0.0)), NO_WORKER),
        (fleet(worker("w1", existing=True)), NO_WORKER),
        (fleet(worker("a", sessions=2)), NO_ROOM),
        (fleet(worker("a", sessions=1, reserved=1)), NO_ROOM),
        (fleet(worker("a", draining=True)), NO_ROOM),
        (fleet(worker("a", sessions=2), worker("b", sessions=1)), NEXT),
    ],
)
def test_what_any_worker_of_ours_may_run_waits_for_one_with_room(fleet: Fleet, why: str) -> None:
    assert why_orphaned(row(), fleet) == why
    assert why_orphaned(row(last_owner="gone"), fleet) == why


@pytest.mark.parametrize(
    ("fleet", "why"),
    [
        (
            fleet(worker("a"), worker("w1", existing=True), named=()),
            "its login lies on w1, which sessions.workers does not name any more: put it back, or sluice sessions move "
            "s1 --to WORKER",
        ),
        (
            fleet(worker("a"), worker("w1", existing=True, left=0.0)),
            "its login lies on w1, which does not answer: start that one again",
        ),
        (fleet(worker("a")), "its login lies on w1, which does not answer: start that one again"),
        (
            fleet(worker("w1", existing=True)),
            "its login lies on w1, which does not list it: create it again, and it is started there",
        ),
    ],
)
def test_what_has_its_login_on_an_existing_worker_waits_for_that_one(fleet: Fleet, why: str) -> None:
    assert why_orphaned(row(existing=True, last_owner="w1"), fleet) == why


def test_what_somebody_has_is_not_orphaned() -> None:
    assert why_orphaned(row(worker="a"), fleet()) is None
