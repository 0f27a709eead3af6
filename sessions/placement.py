"""Where a session goes. Pure: who counts and how full they are comes in, a decision comes out.

Every worker decides for itself what to adopt, from the same numbers; so the decision is the same whoever makes it, and
two that decide at the same moment take different sessions.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """A live worker that runs `load` sessions and can run `capacity`."""

    worker: str
    instance: str
    load: int
    capacity: int


def choose(workers: Iterable[Load], session: str) -> Load | None:
    """The least loaded worker with capacity, None if all are full. Among equals always the same one for a session."""
    free = [worker for worker in workers if worker.load < worker.capacity]
    return min(free, key=lambda worker: (worker.load, _distance(worker.worker, session)), default=None)


def share(workers: Iterable[Load], orphans: Sequence[str], me: str, waited: Sequence[str] = ()) -> list[str]:
    """The orphans that are mine when each in turn goes to the worker that is least loaded by then.

    Those that `waited` too long are mine in any case, capacity permitting: the worker whose turn it is seems unable to.
    """
    fleet = list(workers)
    heap = [(worker.load, worker.worker, worker.capacity) for worker in fleet if worker.load < worker.capacity]
    heapq.heapify(heap)
    mine: list[str] = []
    for session in orphans:
        if not heap:
            break
        load, worker, capacity = heapq.heappop(heap)
        if worker == me:
            mine.append(session)
        if load + 1 < capacity:
            heapq.heappush(heap, (load + 1, worker, capacity))
    mine += [session for session in waited if session not in mine]
    return mine[: sum(worker.capacity - worker.load for worker in fleet if worker.worker == me)]


def _distance(worker: str, session: str) -> bytes:
    """Rendezvous hashing: a worker that comes or goes moves only the sessions it wins or had."""
    return hashlib.blake2b(f"{worker} {session}".encode(), digest_size=8).digest()
