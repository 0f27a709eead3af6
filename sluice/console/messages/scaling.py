"""Workers of ours that are missing, and those that do not become empty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sluice.console.messages.wording import age, some
from sluice.console.status import ScalingStatus, WorkerStatus

DRAINS_FOR = 300.0  # seconds; by then it should have no session any more


def scaling(seen: ScalingStatus | None, workers: Sequence[WorkerStatus]) -> Iterator[str]:
    if seen is not None and seen.unplaced:
        refused = some(seen.unplaced, "create was", "creates were")
        more = some(max(1, seen.wanted - seen.live), "more worker", "more workers")
        yield (
            f"{refused} refused within the last minute, as no worker has room: start {more} of yours "
            "(docs/workers.md), or raise sessions.per_worker"
        )
    if seen is not None and seen.most is not None and seen.wanted > seen.most:
        yield (
            f"{seen.wanted} workers are wanted for {some(seen.sessions, 'session', 'sessions')}, and sluice up starts "
            f"{seen.most} at most: give it a higher --workers, or raise sessions.per_worker"
        )
    for worker in workers:
        if worker.drains_s is not None and worker.drains_s >= DRAINS_FOR and worker.sessions and not worker.lost:
            left = some(worker.sessions, "session", "sessions")
            yield (
                f"worker {worker.worker} drains for {age(worker.drains_s)} and has {left} still, for which no other "
                f"worker has room, or which it does not stop: sluice sessions list --worker {worker.worker}"
            )
