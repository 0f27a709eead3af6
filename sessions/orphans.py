"""Why nobody has a session, and what helps. Pure: who is there comes in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sessions.records import SessionRow, WorkerRow

NO_WORKER = "no worker of yours is live: start one (docs/workers.md)"
NO_ROOM = "all workers of yours are full: start one more (docs/workers.md), or raise the capacity of one"
NEXT = "a worker with room gets it at once"
FULL_AT = 0.9
"""From this share of memory or CPU on a worker gets no more sessions, as `has_room` of prelude.lua has it."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """`named`: the existing workers of the policies."""

    workers: Mapping[str, WorkerRow]
    named: Collection[str]

    @property
    def next_owner(self) -> str:
        """Who takes what any worker of ours may run, or what helps."""
        live = [one for one in self.workers.values() if not one.existing and one.beat_left > 0]
        if not live:
            return NO_WORKER
        return NEXT if any(has_room(one) for one in live) else NO_ROOM


def has_room(worker: WorkerRow) -> bool:
    taken = worker.sessions + worker.reserved
    full = max(worker.memory, worker.cpu) >= FULL_AT
    leaves = worker.draining or worker.drains is not None
    return worker.beat_left > 0 and not leaves and not full and taken < worker.capacity


def why_orphaned(row: SessionRow, fleet: Fleet) -> str | None:
    """None: somebody has it."""
    if row.worker is not None:
        return None
    if not row.existing or row.last_owner is None:
        return fleet.next_owner
    last = fleet.workers.get(row.last_owner)
    if row.last_owner not in fleet.named:
        cure = f"put it back, or sluice sessions move {row.session} --to WORKER"
        return f"its login lies on {row.last_owner}, which sessions.workers does not name any more: {cure}"
    if last is None or last.beat_left <= 0:
        return f"its login lies on {row.last_owner}, which does not answer: start that one again"
    return f"its login lies on {row.last_owner}, which does not list it: create it again, and it is started there"
