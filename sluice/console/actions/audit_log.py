"""The audit log, read: who has changed what, on the machine of the gateway that is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, invalid, unavailable
from sluice.console.audit_reading import Place, newest_first
from sluice.http.decode import Bounds
from sluice.observe.audit_file import path_in

_MAX_LOOKED_AT = 20_000  # lines in one call


@dataclass(frozen=True, slots=True)
class ListAudit:
    action: str | None = None
    """Only changes of this kind, such as hold_circuit."""
    limit: Annotated[int, Bounds(1, 1000)] = 100
    after: str | None = None
    """The `next` of the page before."""


@dataclass(frozen=True, slots=True)
class AuditLine:
    at: datetime
    who: str
    """The name of a token, or a user of the operating system."""
    place: str
    """An address, or a host."""
    through: str
    """api, page or command line."""
    action: str
    request: Mapping[str, Any]
    """Without what was left as it is by default, and without secrets."""
    result: Mapping[str, Any]
    """Numbers and moments of what came of it; empty: it failed."""
    error: str | None
    """Some of it may have been done all the same."""


@dataclass(frozen=True, slots=True)
class AuditLines:
    lines: tuple[AuditLine, ...]
    """The newest first."""
    next: str | None
    """Ask again with it as `after`; null: there are no older ones. A page may hold fewer than `limit`, or none."""


async def list_audit(deployment: Deployment, request: ListAudit) -> AuditLines | Problem:
    """Who has changed what, the newest first: on the machine of the gateway that is asked, or on this one."""
    place = _place(request.after)
    if isinstance(place, Problem):
        return place
    path = path_in(deployment.policies.data)
    try:
        return await asyncio.to_thread(_page, path, request, place)
    except OSError as error:
        return unavailable(f"{path} cannot be read ({(error.strerror or str(error)).lower()})")


def _page(path: Path, request: ListAudit, before: Place | None) -> AuditLines:
    found: list[AuditLine] = []
    last, looked_at = before, 0
    for place, members in newest_first(path, before):
        if len(found) == request.limit or looked_at == _MAX_LOOKED_AT:
            return AuditLines(tuple(found), f"{last.inode}-{last.offset}" if last else None)
        line = _line(members)
        if line is not None and request.action in (None, line.action):
            found.append(line)
        last, looked_at = place, looked_at + 1
    return AuditLines(tuple(found), None)


def _line(members: Mapping[str, Any]) -> AuditLine | None:
    """None: it is none of ours."""
    try:
        at = datetime.fromisoformat(str(members["at"]))
        who, place, through, action = (str(members[name]) for name in ("who", "from", "through", "action"))
    except (KeyError, ValueError):
        return None
    request, result, error = members.get("request"), members.get("result"), members.get("error")
    return AuditLine(
        *(at, who, place, through, action),
        request if isinstance(request, dict) else {},
        result if isinstance(result, dict) else {},
        None if error is None else str(error),
    )


def _place(after: str | None) -> Place | Problem | None:
    if after is None:
        return None
    inode, _, offset = after.partition("-")
    if not (inode.isdecimal() and offset.isdecimal() and len(after) <= 40):
        return invalid(f"after is {quoted(after)}, which is not the next of a page; leave it out to begin anew")
    return Place(int(inode), int(offset))
