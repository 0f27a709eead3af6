"""When stale sessions are ended by themselves, and what came of that: for `status` and `sluice sessions clean`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sessions.lifecycle.cleanings import Cleanings
from sessions.lifecycle.policies import Cleanup
from sluice.console.actions.deployment import moment


@dataclass(frozen=True, slots=True)
class UnclosedSession:
    session: str
    worker: str


@dataclass(frozen=True, slots=True)
class CleaningRun:
    """With `dry_run` nothing was done."""

    at: datetime
    """When it ended."""
    by: str
    """The process that did it."""
    dry_run: bool
    ended: int
    would_end: int
    more: bool
    """It ended as many as it may (sessions.cleanup.at_once), and others are stale."""
    not_closed: tuple[UnclosedSession, ...]
    """One of each existing worker that did not close one."""
    purged: int
    not_purged: int
    """Sessions that wait for the vault; until they are purged nobody can create them."""
    why_not_purged: str


@dataclass(frozen=True, slots=True)
class CleanupStatus:
    every_s: float
    dry_run: bool
    running: str | None
    """The process that cleans just now."""
    due: datetime | None
    """When the next run is; null: at once."""
    late_s: float
    """For how long a run has been due and nobody has begun it."""
    last: CleaningRun | None


def cleanup_status(policy: Cleanup | None, seen: Cleanings | None) -> CleanupStatus | None:
    """None: it is not done, or the store did not tell."""
    if policy is None or seen is None:
        return None
    return CleanupStatus(
        every_s=policy.every,
        dry_run=policy.dry_run,
        running=seen.by or None,
        due=None if seen.due is None else moment(seen.due),
        late_s=0.0 if seen.by or seen.due is None else max(0.0, seen.now - seen.due),
        last=_last(seen),
    )


def _last(seen: Cleanings) -> CleaningRun | None:
    if seen.last is None or seen.at is None:
        return None
    run = seen.last
    return CleaningRun(
        at=moment(seen.at),
        by=run.by,
        dry_run=run.dry_run,
        ended=run.ended,
        would_end=run.would_end,
        more=run.more,
        not_closed=tuple(UnclosedSession(one.session, one.worker) for one in run.not_closed),
        purged=run.purged,
        not_purged=run.not_purged,
        why_not_purged=run.why_not_purged,
    )
