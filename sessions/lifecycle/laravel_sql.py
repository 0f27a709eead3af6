"""The clean-up of Laravel's own table as SQL that MySQL, PostgreSQL and SQLite understand.

It does what Laravel does itself with the other rows of a phone at session_ready: status failed, no phone, soft-deleted.
Rows that lost their use before have their phone taken, too: the unique index over phone, workspace and status counts
them. A row that has changed since the export is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sessions.lifecycle.accounts import Account
from sessions.lifecycle.assessment import Assessment

_PLAIN = re.compile(r"[A-Za-z0-9._:@+-]{1,200}")
"""Of texts that mean the same in each of the three, whatever their settings."""


def clean_up(found: Assessment) -> Iterator[str]:
    """Line by line, in one transaction."""
    yield "-- Run it while none of these accounts is being connected; take a copy of whatsapp_accounts first."
    yield "BEGIN;"
    for removal in found.removals:
        yield f"-- {_named(removal.account)}: {removal.why}"
        yield _remove(removal.account)
    for account in found.blocking:
        yield f"-- {_named(account)}: soft-deleted, and in the way of the unique index"
        yield _update("phone_number = NULL", _which(account), "deleted_at IS NOT NULL")
    yield "COMMIT;"


def _remove(account: Account) -> str:
    status = _literal(account.status)
    change = "status = 'failed', phone_number = NULL, deleted_at = CURRENT_TIMESTAMP"
    return _update(change, _which(account), status and f"status = {status} AND deleted_at IS NULL")


def _update(change: str, which: str | None, only: str | None) -> str:
    if which is None or only is None:
        return "--   left out: it has no id, or its status or session_id has signs that not every database reads alike"
    return f"UPDATE whatsapp_accounts SET {change} WHERE {which} AND {only};"  # noqa: S608  # each part is a number, ours, or plain


def _which(account: Account) -> str | None:
    if account.id is not None:
        return f"id = {account.id}"
    session = _literal(account.session)
    return session and f"session_id = {session}"


def _literal(text: str) -> str | None:
    return f"'{text}'" if _PLAIN.fullmatch(text) else None


def _named(account: Account) -> str:
    return f"row {account.row}" if account.id is None else f"account {account.id}"
