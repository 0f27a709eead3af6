from __future__ import annotations

from typing import Any

from sessions.records import WorkerRow
from sluice.console.status import DisputedSession, ExistingWorkerStatus
from sluice.console.worker_notes import notes_on


def row(*, existing: bool = False, **more: Any) -> WorkerRow:
    return WorkerRow("w1", "http://w1:3000", 25, 4, existing, 5.0, **more)


def seen(**more: Any) -> ExistingWorkerStatus:
    return ExistingWorkerStatus("w1", "http://w1:3000", None, 60.0, True, **more)


def test_of_a_worker_of_ours_what_keeps_it_from_taking_more() -> None:
    full = row(reserved=1_000, draining=True, memory=0.95, cpu=0.9)
    assert notes_on(full, None, named=True) == ("1,000 reserved", "draining", "memory 95%", "CPU 90%")
    assert notes_on(row(memory=0.89), None, named=True) == ()


def test_of_an_existing_one_what_is_wrong_with_it() -> None:
    worker = row(existing=True, waiting=1)
    disputed = (DisputedSession("s1", "w0", "w1"),)
    wrong = seen(refused=True, keyed=True, several=True, missing=2, disputed=disputed, odd=3)
    assert notes_on(worker, wrong, named=True) == (
        "1 not begun",
        "refuses our key",
        "several processes",
        "2 of 5 missing",
        "1 disputed",
        "3 odd in its list",
    )
    assert notes_on(row(existing=True), seen(missing=2, restoring_s=5.0), named=True) == ("restores 2 of 4",)
    assert notes_on(row(existing=True), seen(refused=True), named=True) == ("wants a key",)
    assert notes_on(row(existing=True), None, named=False) == ("not in sessions.workers",)
    assert notes_on(row(existing=True), seen(), named=True) == ()
