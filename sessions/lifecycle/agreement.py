"""What Laravel's table and the registry agree on: an account that is to go by the one is ended here only where its
session is of no use by the other, too. Pure.

A table is as old as its export, so the registry decides: what is connected now is never ended, whatever a file says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sessions.ending import Why
from sessions.lifecycle.phones import digits
from sessions.lifecycle.policies import Cleanup
from sessions.lifecycle.same_phone import useless
from sessions.lifecycle.stale import spell
from sessions.records import SessionRow

Disagreement = Literal["unknown", "ended_before", "connected", "not_agreed"]


@dataclass(frozen=True, slots=True)
class Agreed:
    """It is to be ended. `stays`: the session that has its phone; empty: that is not why."""

    why: Why
    detail: str
    stays: str = ""


@dataclass(frozen=True, slots=True)
class Differs:
    outcome: Disagreement
    detail: str


def agreed(
    row: SessionRow | None, workspace: str, stays: SessionRow | None, policy: Cleanup, now: float
) -> Agreed | Differs:
    """`row`: as the registry has it; `workspace`: as the table has it. `stays`: the session that has its phone by the
    table, as the registry has it. `now`: seconds since 1970."""
    if row is None:
        return Differs("unknown", "Sluice does not know it")
    if row.ended:
        return Differs("ended_before", row.reason or row.ended)
    if row.state == "connected" and row.worker is not None:
        return Differs("connected", f"connected at {row.worker}")
    if row.workspace is not None and row.workspace != workspace:
        return Differs("not_agreed", f"it is of workspace {row.workspace} here")
    connected = stays.session if stays is not None and _has_its_phone(row, stays) else ""
    found = useless(row, connected, policy, now)
    if found is None:
        where = f"at {row.worker}" if row.worker else "without a worker"
        return Differs("not_agreed", f"{row.state} {where} for {spell(now - row.since)}")
    return Agreed(found.why, found.in_words, connected if found.why == "superseded" else "")


def _has_its_phone(row: SessionRow, stays: SessionRow) -> bool:
    if stays.worker is None or stays.state != "connected" or stays.ended or stays.workspace != row.workspace:
        return False
    return not row.phone or not stays.phone or digits(row.phone) == digits(stays.phone)
