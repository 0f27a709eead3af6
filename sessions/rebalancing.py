"""Which session goes next from one worker of ours to another that runs, too. Pure.

To balance: from the fullest worker to the emptiest, where that is worth it, and never one that is busy. To drain: all
of them, those first that are not busy. A session is busy while something is asked of it or comes from it, while its
state changes, and while it is paired.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from sessions.orphans import has_room
from sessions.placement import Candidate, choose
from sessions.records import WorkerRow

MORE = 2
"""Sessions by which two workers may differ, whatever they have."""
SHARE = 0.2
"""Of what the fuller one has, by which they may differ."""
AT_ONCE = 2
"""Sessions that a worker which drains stops at a time, as one that ends does."""
_QUIET_FIRST = 10.0
"""Seconds in which a worker that drains gives on only what is quiet; then what nothing is being asked of."""
_BY_THEN = 30.0
"""Seconds after which it gives on everything."""
UNASKED = 3.0
"""Seconds: gateways tell each second what is being asked."""
_PAIRED = frozenset({"created", "starting", "qr_scanning", "authenticated"})


@dataclass(frozen=True, slots=True)
class Held:
    """A session that a worker of ours has. `idle`: seconds for which it was not busy."""

    session: str
    state: str
    fence: int
    idle: float
    leaving: bool
    """It is on its way already."""
    by_person: bool
    """A person has moved, released or restored it within the last hour."""


@dataclass(frozen=True, slots=True)
class Shift:
    session: str
    state: str
    fence: int
    origin: str
    to: str
    idle: float
    """Seconds for which it must not have been busy still."""


def worth(workers: Collection[WorkerRow], but: Collection[str] = ()) -> WorkerRow | None:
    """The worker from which a session is to go; None: they are balanced well enough. `but`: of these none can go."""
    able = [one for one in _ours(workers) if one.drains is None and not one.draining]
    targets = [_taken(one) for one in able if has_room(one)]
    if not targets:
        return None
    fullest = max(
        (one for one in able if one.worker not in but), key=lambda one: (_taken(one), one.worker), default=None
    )
    if fullest is None or _taken(fullest) - min(targets) <= max(MORE, SHARE * _taken(fullest)):
        return None
    return fullest


def to_balance(origin: WorkerRow, held: Sequence[Held], workers: Collection[WorkerRow], quiet: float) -> Shift | None:
    """The session of `origin` that has been quiet for longest, if any may go. `quiet` in seconds."""
    able = [one for one in held if one.state == "connected" and one.idle >= quiet and not one.leaving]
    able = [one for one in able if not one.by_person]
    if not able:
        return None
    one = max(able, key=lambda one: (one.idle, one.session))
    return _shift(origin, one, workers, quiet)


def to_drain(origin: WorkerRow, held: Sequence[Held], workers: Collection[WorkerRow], quiet: float) -> Iterator[Shift]:
    """What leaves a worker that drains now."""
    age = origin.drains or 0.0
    idle = min(quiet, 0.0 if age >= _BY_THEN else UNASKED if age >= _QUIET_FIRST else quiet)
    left = AT_ONCE - sum(one.leaving for one in held)
    able = [one for one in held if one.idle >= idle and not one.leaving]
    able = [one for one in able if one.state not in _PAIRED or age >= _BY_THEN]
    for one in sorted(able, key=lambda one: (-one.idle, one.session))[: max(0, left)]:
        shift = _shift(origin, one, workers, idle)
        if shift is None:
            return
        workers = moved(workers, shift)
        yield shift


def moved(workers: Collection[WorkerRow], shift: Shift) -> list[WorkerRow]:
    """The workers as they will be by then."""
    change = {shift.origin: -1, shift.to: 1}
    return [replace(one, sessions=one.sessions + change.get(one.worker, 0)) for one in workers]


def busy(held: Sequence[Held]) -> int:
    """How many are not quiet enough to leave a worker without anybody noticing."""
    return sum(one.idle < UNASKED or one.state in _PAIRED for one in held)


def _shift(origin: WorkerRow, one: Held, workers: Collection[WorkerRow], idle: float) -> Shift | None:
    others = [
        Candidate(row.worker, "", _taken(row), row.capacity)
        for row in _ours(workers)
        if row.worker != origin.worker and has_room(row)
    ]
    chosen = choose(others, one.session)
    return Shift(one.session, one.state, one.fence, origin.worker, chosen.worker, idle) if chosen else None


def _ours(workers: Collection[WorkerRow]) -> list[WorkerRow]:
    return [one for one in workers if not one.existing and one.beat_left > 0]


def _taken(worker: WorkerRow) -> int:
    return worker.sessions + worker.reserved
