"""What `GET /api/sessions` of an existing worker says. Pure; everything in it is foreign and has a limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from sessions.registry import ObservedSession
from sluice.http import foreign_json
from sluice.http.foreign_json import TooManyValues
from sluice.observe.printable import on_one_line

MAX_BYTES = 4 * 2**20
MAX_SESSIONS = 1000
"""Each is known in the store from then on, and all of a list are noted in one call."""
_LONGEST = 200
_SHOWN = 80
_UNKNOWN = "unknown"


class Unusable(Exception):
    """The answer as a whole says nothing. The message says why."""


@dataclass(frozen=True, slots=True)
class Listed:
    sessions: Mapping[str, ObservedSession]
    odd: int
    """Items that name no session."""
    example: str
    """One of those, short and printable; empty: there is none."""


def sessions_in(body: bytes) -> Listed:
    """`{"sessions": […]}` or the bare list. An item that cannot be read is counted, and the others count."""
    if len(body) > MAX_BYTES:
        raise Unusable(f"GET /api/sessions answered more than {MAX_BYTES // 2**20} MiB")
    try:
        answer = foreign_json.loads(body)
    except TooManyValues as error:
        raise Unusable(f"the answer of GET /api/sessions is not read: {error}") from None
    except ValueError:
        raise Unusable("the answer of GET /api/sessions is not JSON") from None
    items = answer.get("sessions") if isinstance(answer, dict) else answer
    if not isinstance(items, list):
        raise Unusable("GET /api/sessions has no list of sessions")
    if len(items) > MAX_SESSIONS:
        raise Unusable(f"GET /api/sessions lists {len(items):,} sessions, and {MAX_SESSIONS:,} are the most")
    return _listed(items)


def _listed(items: list[object]) -> Listed:
    found: dict[str, ObservedSession] = {}
    odd, example = 0, ""
    for item in items:
        fields: Mapping[str, Any] = item if isinstance(item, dict) else {}
        session = _text(fields, "session_id", "sessionId", "id")
        if session is None:
            odd, example = odd + 1, example or _short(item)
        else:
            found.setdefault(session, _observed(fields))
    return Listed(found, odd, example)


def _observed(fields: Mapping[str, Any]) -> ObservedSession:
    workspace = _text(fields, "workspace_id", "workspaceId")
    about = {} if workspace is None else {"workspace_id": workspace}
    return ObservedSession(_text(fields, "status") or _UNKNOWN, _text(fields, "phone_number", "phoneNumber"), about)


def _text(fields: Mapping[str, Any], *names: str) -> str | None:
    """The first of these that can be used, as text; ids may be numbers."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool):
            text = str(value)
            if 0 < len(text) <= _LONGEST and text.isprintable():
                return text
    return None


def _short(item: object) -> str:
    try:
        text = on_one_line(orjson.dumps(item).decode())
    except TypeError:  # nested more deeply than is written
        return "…"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
