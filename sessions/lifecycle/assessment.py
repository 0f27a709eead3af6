"""What is to be cleaned in Laravel's table: several rows of one phone, and what is stale. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sessions.lifecycle.accounts import Account
from sessions.lifecycle.phones import Keep, OfPhone, superseded
from sessions.lifecycle.stale import StaleAfter

Why = Literal["duplicate", "stale"]


@dataclass(frozen=True, slots=True)
class Removal:
    account: Account
    why: Why
    detail: str
    stays: str = ""
    """The session that has its phone; empty: that is not why."""


@dataclass(frozen=True, slots=True)
class Assessment:
    kept: tuple[Account, ...]
    removals: tuple[Removal, ...]
    blocking: tuple[Account, ...]
    """Removed before, and still counted by the unique index of phone, workspace and status."""
    undated: tuple[Account, ...]
    """Kept, as nobody can tell for how long they have been as they are."""


def assess(accounts: Sequence[Account], keep: Keep, stale_after: StaleAfter, now: float) -> Assessment:
    """`now`: seconds since 1970."""
    live = [one for one in accounts if not one.deleted]
    instead = superseded(map(_of_phone, live), keep)
    by_session = {one.session: one for one in live}
    kept, removals, undated = list[Account](), list[Removal](), list[Account]()
    for one in live:
        stays = instead.get(one.session)
        stale = stale_after.why(one.status, None if one.since is None else now - one.since)
        if stays is not None:
            removals.append(Removal(one, "duplicate", f"{one.status}; {_name(by_session[stays])} has its phone", stays))
        elif stale is not None:
            removals.append(Removal(one, "stale", stale))
        else:
            kept.append(one)
            if one.since is None and one.status in stale_after.of:
                undated.append(one)
    blocking = tuple(one for one in accounts if one.deleted and one.phone)
    return Assessment(tuple(kept), tuple(removals), blocking, tuple(undated))


def _of_phone(account: Account) -> OfPhone:
    order = account.id if account.id is not None else account.row
    return OfPhone(account.session, account.workspace, account.phone, account.status, account.since or 0.0, order)


def _name(account: Account) -> str:
    """As people speak of it."""
    return f"account {account.id}" if account.id is not None else f"session {account.session}"
