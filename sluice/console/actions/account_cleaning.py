"""Accounts that are to go by Laravel's table: what the registry agrees on is ended in Sluice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from sessions.lifecycle.agreement import Agreed, agreed
from sessions.lifecycle.closing import Closing
from sessions.lifecycle.policies import Cleanup
from sessions.records import SessionRow
from sluice.console.actions.deployment import Deployment, Problem, invalid
from sluice.http.decode import Bounds

PERSON = "a person"
AT_ONCE = 50
_Name = Annotated[str, Bounds(1, 200)]


@dataclass(frozen=True, slots=True)
class AccountToGo:
    """As the table has it."""

    session: _Name
    workspace: _Name
    stays: Annotated[str, Bounds(0, 200)] = ""
    """The session that has its phone and stays; empty: it is stale."""


@dataclass(frozen=True, slots=True)
class CleanAccounts:
    accounts: Annotated[tuple[AccountToGo, ...], Bounds(1, AT_ONCE)]
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """Their sessions run nowhere then, until somebody creates or restores them, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class CleanedAccount:
    session: str
    outcome: str
    """ended (a dry run: would_end); unknown (Sluice does not know it), ended_before, connected (it is, now) or
    not_agreed (by the registry it is of use); changed (it is not as it was found) or not_closed (by its existing
    worker)."""
    detail: str


@dataclass(frozen=True, slots=True)
class CleanedAccounts:
    accounts: tuple[CleanedAccount, ...]
    outcomes: Mapping[str, int]


async def clean_accounts(deployment: Deployment, request: CleanAccounts) -> CleanedAccounts | Problem:
    """End the sessions of accounts that are to go by Laravel's table, where the registry agrees."""
    if not request.confirm and not request.dry_run:
        return invalid("set confirm to true, or look first with dry_run set to true")
    registry, policy = deployment.registry, deployment.policies.sessions
    closing, now = Closing(registry, policy.workers), await registry.time() / 1000
    done = list[CleanedAccount]()
    for account in request.accounts:
        row = await registry.session(account.session)
        stays = await registry.session(account.stays) if account.stays else None
        found = agreed(row, account.workspace, stays, policy.cleanup or Cleanup(), now)
        if not isinstance(found, Agreed):
            done.append(CleanedAccount(account.session, found.outcome, found.detail))
        elif request.dry_run:
            done.append(CleanedAccount(account.session, "would_end", found.detail))
        else:
            assert row is not None
            done.append(CleanedAccount(account.session, await _end(closing, row, found), found.detail))
    return CleanedAccounts(tuple(done), dict(sorted(Counter(one.outcome for one in done).items())))


async def _end(closing: Closing, row: SessionRow, found: Agreed) -> str:
    return await closing.end(
        row.session,
        found.why,
        by=PERSON,
        stays=found.stays,
        state=row.state,
        since=row.since,
        unowned=row.worker is None,
    )
