"""How sessions stood when somebody last said so: what status is answered from while no worker can say."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from sessions.registry import SessionRow
from sluice.process.cache import Latest

MAX_BODY = 8 * 1024
"""Bytes of a status answer; the contract's has about 200."""
_MAX_BYTES = 16 * 1024 * 1024
_SIZE = 200
"""Bytes of what was noted, apart from the session's name and what its worker said."""
_THEIRS = {"created": "qr_scanning", "starting": "qr_scanning", "logged_out": "disconnected", "failed": "error"}
"""By our states, the words of the existing workers; the others are theirs, too."""


@dataclass(slots=True)
class Noted:
    worker: str
    body: bytes
    """Of the last status answer that passed; empty: none did."""
    missing_since: float | None = field(default=None)
    """`time.monotonic`; since when its worker says that it does not run it."""


class LastKnown:
    """Of one process, capped in bytes; what was noted longest ago goes first."""

    def __init__(self) -> None:
        self._noted: Latest[str, Noted] = Latest(_MAX_BYTES)

    def note(self, session: str, worker: str, body: bytes) -> None:
        """What the worker has just said of it, with 200."""
        self._put(session, Noted(worker, body))

    def missing(self, session: str, worker: str) -> float:
        """For how many seconds its worker has said that it does not run it; 0 for the first time."""
        now, noted = time.monotonic(), self._noted.get(session)
        if noted is None or noted.worker != worker:
            noted = Noted(worker, b"")
        if noted.missing_since is None:
            noted.missing_since = now
            self._put(session, noted)
        return now - noted.missing_since

    def of(self, session: str) -> Noted | None:
        return self._noted.get(session)

    def forget(self, session: str) -> None:
        self._noted.drop(session)

    def _put(self, session: str, noted: Noted) -> None:
        self._noted.keep(session, noted, session.__sizeof__() + len(noted.body) + _SIZE)


def status_of(row: SessionRow, noted: Noted | None) -> bytes:
    """The contract's answer, from the registry's row; as the worker gave it, where nothing has changed since."""
    status = word_of(row)
    said = _fields(noted.body) if noted is not None and noted.body else {}
    if noted is not None and said.get("status") == status:
        return noted.body
    since = moment(row.since)
    return orjson.dumps(
        {
            "session_id": row.session,
            "status": status,
            "phone_number": row.phone,
            "workspace_id": row.about.get("workspace_id", row.workspace),
            "connected_at": since if status == "connected" else said.get("connected_at"),
            "last_activity": said.get("last_activity", since),
        }
    )


def status_unknown(session: str) -> bytes:
    """Of a session of which neither the store nor anybody else can say anything right now."""
    nothing = dict.fromkeys(("phone_number", "workspace_id", "connected_at", "last_activity"))
    return orjson.dumps({"session_id": session, "status": "unknown", **nothing})


def word_in(body: bytes) -> object:
    """The status of a worker's answer; None: it has none."""
    return _fields(body).get("status")


def _fields(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def word_of(row: SessionRow) -> str:
    """Its state as the existing workers call it."""
    return "error" if row.reason == "error" else _THEIRS.get(row.state, row.state)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
