"""What is worth a word beside a worker in a table: a few words each. Pure; the sentences of `status` say the cure."""

from __future__ import annotations

from collections.abc import Iterator

from sessions.orphans import FULL_AT
from sessions.records import WorkerRow
from sluice.console.status import ExistingWorkerStatus


def notes_on(worker: WorkerRow, seen: ExistingWorkerStatus | None, *, named: bool) -> tuple[str, ...]:
    """`seen`: of an existing one; `named`: the policies name it."""
    return (*_own(worker), *(_existing(worker, seen, named=named) if worker.existing else ()))


def _own(worker: WorkerRow) -> Iterator[str]:
    if worker.reserved:
        yield f"{worker.reserved:,} reserved"
    if worker.draining or worker.drains is not None:
        yield "draining"
    if worker.memory >= FULL_AT:
        yield f"memory {worker.memory:.0%}"
    if worker.cpu >= FULL_AT:
        yield f"CPU {worker.cpu:.0%}"
    if worker.dropped:
        yield f"{worker.dropped:,} dropped"


def _existing(worker: WorkerRow, seen: ExistingWorkerStatus | None, *, named: bool) -> Iterator[str]:
    if not named:
        yield "not in sessions.workers"
    if worker.waiting:
        yield f"{worker.waiting:,} not begun"
    if seen is None:
        return
    if seen.refused:
        yield "refuses our key" if seen.keyed else "wants a key"
    if seen.several:
        yield "several processes"
    if seen.missing:
        total = worker.sessions + worker.waiting
        left = f"{seen.missing:,} of {total:,}"
        yield f"restores {left}" if seen.restoring_s else f"{left} missing"
    if seen.disputed:
        yield f"{len(seen.disputed):,} disputed"
    if seen.odd:
        yield f"{seen.odd:,} odd in its list"
