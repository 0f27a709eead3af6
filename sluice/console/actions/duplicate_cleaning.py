"""Sessions of a phone that another session is connected with: which they are, and ending them now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from sessions.lifecycle.closing import Closing
from sessions.lifecycle.duplicates import Duplicate, clean, find
from sessions.lifecycle.policies import Cleanup
from sluice.console.actions.deployment import Deployment, Problem, invalid, moment
from sluice.http.decode import Bounds

PERSON = "a person"


@dataclass(frozen=True, slots=True)
class CleanDuplicates:
    limit: Annotated[int, Bounds(1, 1000)] = 100
    """The most that are ended."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """They run nowhere then, until somebody creates or restores them, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class CleanedDuplicate:
    session: str
    stays: str
    """The session that is connected with its phone."""
    state: str
    since: datetime
    why: str
    worker: str | None
    workspace: str | None
    phone: str | None
    outcome: str | None
    """ended, changed (it is not as it was found) or not_closed (by its existing worker); null: dry run."""


@dataclass(frozen=True, slots=True)
class CleanedDuplicates:
    sessions: tuple[CleanedDuplicate, ...]
    outcomes: Mapping[str, int]
    more: bool
    """There may be others."""


async def clean_duplicates(deployment: Deployment, request: CleanDuplicates) -> CleanedDuplicates | Problem:
    """End the sessions whose phone another session of the workspace is connected with, as `sessions.one_phone` says."""
    if not request.confirm and not request.dry_run:
        return invalid("set confirm to true, or look first with dry_run set to true")
    policy = deployment.policies.sessions
    closing, done = Closing(deployment.registry, policy.workers), list[CleanedDuplicate]()
    found = find(deployment.registry, policy.cleanup or Cleanup(), policy.one_phone.keep, request.limit)
    for one in [duplicate async for duplicate in found]:  # all of them are decided on before the first is ended
        done.append(_cleaned(one, None if request.dry_run else await clean(closing, one, PERSON)))
    outcomes = Counter(one.outcome for one in done if one.outcome is not None)
    return CleanedDuplicates(tuple(done), dict(outcomes), len(done) == request.limit)


def _cleaned(one: Duplicate, outcome: str | None) -> CleanedDuplicate:
    row = one.row
    return CleanedDuplicate(
        row.session,
        one.stays,
        row.state,
        moment(row.since),
        one.in_words,
        row.worker,
        row.workspace,
        row.phone,
        outcome,
    )
