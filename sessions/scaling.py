"""How many workers of ours are wanted. Pure: what there is to do and what was decided before comes in.

They become more at once, as soon as over UP of what they can run is wanted, so that there is room for what comes next;
and fewer one at a time, after less than DOWN of it was wanted for STABLE seconds. What one step does the other does not
undo: after one worker less there is still no reason for one more.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from sessions.orphans import FULL_AT
from sessions.records import Summary, WorkerRow

UP, DOWN = 0.8, 0.5
STABLE = 15.0
STEP = 3.0
"""Seconds between two workers less."""
MOST = 1000
"""However many sessions there are."""


@dataclass(frozen=True, slots=True)
class Demand:
    sessions: int
    """Those that workers of ours are to run, with the next two."""
    unowned: int
    """That nobody has, and any of them may get."""
    unplaced: int
    """Creates that were refused within the last minute, as all were full."""
    per_worker: float
    """Sessions that one worker runs."""
    live: int
    full: bool
    """All live ones have sessions, and take no more as they have no memory or CPU left."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Moments in seconds since 1970."""

    workers: int
    low_since: float | None = None
    """Since when fewer would do."""
    changed: float = 0.0


def demand_of(seen: Summary, unplaced: int, per_worker: int) -> Demand:
    """`per_worker`: of a worker, while none is there to say."""
    live = [one for one in seen.workers if not one.existing and one.beat_left > 0]
    staying = [one for one in live if one.drains is None and not one.draining]
    there = sum(one.sessions + one.reserved for one in live)
    elsewhere = sum(one.waiting + (one.sessions if one.existing else 0) for one in seen.workers)
    owned = sum(one.sessions for one in live)
    unowned = max(0, seen.total - owned - elsewhere)
    capacities = [one.capacity for one in live if one.capacity > 0]
    each = sum(capacities) / len(capacities) if capacities else float(per_worker)
    return Demand(there + unowned + unplaced, unowned, unplaced, each, len(staying), _all_full(staying))


def _all_full(workers: Collection[WorkerRow]) -> bool:
    return bool(workers) and all(one.sessions and max(one.memory, one.cpu) >= FULL_AT for one in workers)


def want(before: Wanted | None, demand: Demand, now: float) -> Wanted:
    """The next decision; `now` in seconds since 1970. Never fewer than hold what is wanted, and never none."""
    known = before or Wanted(max(1, demand.live))
    most = min(MOST, known.workers)
    enough = min(MOST, max(1, math.ceil(demand.sessions / (UP * demand.per_worker))))
    if demand.full:
        enough = min(MOST, max(enough, demand.live + 1))
    if enough > most:
        return Wanted(enough, None, now)
    if enough == most or demand.sessions >= DOWN * demand.per_worker * most:
        return Wanted(most, None, known.changed)
    since = now if known.low_since is None else min(known.low_since, now)
    if now - since >= STABLE and now - known.changed >= STEP:
        return Wanted(most - 1, since, now)
    return Wanted(most, since, known.changed)
