"""Workers that are late, lost or silent, and sessions that nobody runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluice.console.messages.wording import age, some
from sluice.console.status import SessionCounts, WorkerStatus


def sessions(workers: Sequence[WorkerStatus], counts: SessionCounts) -> Iterator[str]:
    spare = any(not w.existing and not w.lost and w.sessions < w.capacity for w in workers)
    for worker in workers:
        yield from _worker(worker, spare=spare)
    orphans = (counts.unowned or 0) - sum(worker.sessions for worker in workers if worker.lost)
    if orphans > 0:
        yield f"{some(orphans, 'session has', 'sessions have')} no worker; {_next_worker(spare)}"


def _worker(worker: WorkerStatus, *, spare: bool) -> Iterator[str]:
    name, sessions = worker.worker, worker.sessions
    if worker.existing:
        if worker.lost:
            its = some(sessions, "session cannot move: its login is", "sessions cannot move: their logins are")
            yield f"worker {name} does not answer; its {its} there"
    elif worker.lost:
        if sessions:
            its = some(sessions, "session has", "sessions have")
            yield f"worker {name} is lost; its {its} no worker; {_next_worker(spare)}"
    elif worker.last_beat_s is not None and worker.last_beat_s > worker.beat_left_s:
        late, left = age(worker.last_beat_s), age(worker.beat_left_s)
        its = some(sessions, "session moves", "sessions move")
        yield f"worker {name} has not beaten for {late}; its {its} when its lease ends in {left}"


def _next_worker(spare: bool) -> str:
    return (
        "a worker with free capacity takes over with its next beat"
        if spare
        else "no worker has free capacity, start one more of yours (docs/workers.md)"
    )
