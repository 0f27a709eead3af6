"""Stale sessions: which they are, and ending them now, as the cleaner would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sessions.lifecycle.cleaning import StaleSession, clean, find
from sessions.lifecycle.cleanings import cleanings
from sessions.lifecycle.closing import Closing
from sessions.lifecycle.policies import Cleanup
from sluice.console.actions.deployment import Deployment, Problem, invalid, moment
from sluice.console.cleanup import CleanupStatus, cleanup_status
from sluice.http.decode import Bounds

PERSON = "a person"


@dataclass(frozen=True, slots=True)
class CleanSessions:
    limit: Annotated[int, Bounds(1, 1000)] = 100
    """The most that are ended."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """They run nowhere then, until somebody creates or restores them, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class CleanedSession:
    session: str
    state: str
    since: datetime
    why: str
    worker: str | None
    workspace: str | None
    phone: str | None
    outcome: str | None
    """ended, changed (it is not stale any more) or not_closed (its existing worker did not close it); null: dry run."""


@dataclass(frozen=True, slots=True)
class CleanedSessions:
    sessions: tuple[CleanedSession, ...]
    outcomes: Mapping[str, int]
    more: bool
    """There may be others."""
    cleanup: CleanupStatus | None = None
    """When it is done by itself, and what came of it the last time; null: it is not (sessions.cleanup)."""


async def clean_sessions(deployment: Deployment, request: CleanSessions) -> CleanedSessions | Problem:
    """End the sessions that are stale by `sessions.cleanup`, or by its defaults."""
    if not request.confirm and not request.dry_run:
        return invalid("set confirm to true, or look first with dry_run set to true")
    policy = deployment.policies.sessions
    rule = policy.cleanup or Cleanup()
    closing, done = Closing(deployment.registry, policy.workers), list[CleanedSession]()
    async for one in find(deployment.registry, rule, request.limit):
        outcome = None if request.dry_run else await clean(closing, one, PERSON)
        done.append(_cleaned(one, outcome))
    outcomes = Counter(one.outcome for one in done if one.outcome is not None)
    seen = await cleanings(deployment.store) if policy.cleanup else None
    by_itself = cleanup_status(policy.cleanup, seen)
    return CleanedSessions(tuple(done), dict(outcomes), len(done) == request.limit, by_itself)


def _cleaned(one: StaleSession, outcome: str | None) -> CleanedSession:
    return CleanedSession(
        one.session, one.state, moment(one.since), one.why, one.worker, one.workspace, one.phone, outcome
    )
