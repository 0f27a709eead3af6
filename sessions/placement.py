"""Where a session goes. Pure: who has room and how full they are comes in, a decision comes out.

The least loaded worker takes it; among those that are at most one above the least, the one with the fewest sessions of
its workspace, so that a worker that is lost does not take all of a tenant's numbers with it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

AT_ONCE = 8
"""The most sessions that one worker is given in one round: starts after a mass failure are spread over rounds."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live worker that holds `taken` places, reserved ones too, and can run `capacity` sessions."""

    worker: str
    instance: str
    taken: int
    capacity: int
    alike: int = 0
    """Sessions of the same workspace there."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A session that somebody should run. `avoid`: a worker that could not stop it; it is the last to get it."""

    session: str
    workspace: str = ""
    avoid: str = ""


def choose(candidates: Iterable[Candidate], session: str, avoid: str = "") -> Candidate | None:
    """None if all are full. Among equals always the same one for a session."""
    free = [one for one in candidates if one.taken < one.capacity]
    free = [one for one in free if one.worker != avoid] or free
    if not free:
        return None
    least = min(one.taken for one in free)
    near = [one for one in free if one.taken <= least + 1]
    return min(near, key=lambda one: (one.alike, one.taken, _distance(one.worker, session)))


def share(
    candidates: Sequence[Candidate], orphans: Sequence[Orphan], alike: Mapping[tuple[str, str], int]
) -> dict[str, Candidate]:
    """Who gets which orphan in this round, each in turn. `alike`: sessions by worker and workspace."""
    fleet = {one.worker: one for one in candidates}
    there, given = Counter(alike), Counter[str]()
    chosen: dict[str, Candidate] = {}
    for orphan in orphans:
        workspace = orphan.workspace
        able = [
            replace(one, alike=there[one.worker, workspace] if workspace else 0)
            for one in fleet.values()
            if given[one.worker] < AT_ONCE
        ]
        found = choose(able, orphan.session, orphan.avoid)
        if found is None:
            continue
        chosen[orphan.session] = found
        given[found.worker] += 1
        there[found.worker, workspace] += 1
        fleet[found.worker] = replace(fleet[found.worker], taken=found.taken + 1)
    return chosen


def _distance(worker: str, session: str) -> bytes:
    """Rendezvous hashing: a worker that comes or goes moves only the sessions it wins or had."""
    return hashlib.blake2b(f"{worker} {session}".encode(), digest_size=8).digest()
