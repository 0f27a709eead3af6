"""Laravel's tables, as far as the contract speaks of them."""

from __future__ import annotations

import sqlite3
import time
import uuid
from typing import Any

_TABLES = """
CREATE TABLE whatsapp_accounts (
    id INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    session_id TEXT UNIQUE,
    workspace_id INTEGER NOT NULL,
    phone_number TEXT,
    status TEXT NOT NULL CHECK (status IN
        ('qr_scanning', 'authenticated', 'connected', 'disconnected', 'failed', 'pending')),
    provider_type TEXT NOT NULL DEFAULT 'webjs',
    assigned_instance_url TEXT,
    qr_code TEXT,
    last_error TEXT,
    deleted_at REAL
);
-- Soft-deleted rows count, too.
CREATE UNIQUE INDEX unique_active_phone_workspace ON whatsapp_accounts (phone_number, workspace_id, status);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    event TEXT NOT NULL,
    message_id TEXT,
    body TEXT,
    at REAL NOT NULL
);
-- Every change of a status, and why.
CREATE TABLE marks (
    id INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    before TEXT,
    after TEXT NOT NULL,
    why TEXT NOT NULL,
    at REAL NOT NULL
);
"""
Row = dict[str, Any]


class Accounts:
    """In memory. Methods raise sqlite3.IntegrityError where a row would break a unique index or the status enum."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_TABLES)

    def add(self, session: str, workspace: int, **fields: Any) -> Row:
        row = {"uuid": str(uuid.uuid4()), "session_id": session, "workspace_id": workspace, "status": "qr_scanning"}
        row |= fields
        names = ", ".join(row)
        self._db.execute(
            f"INSERT INTO whatsapp_accounts ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )
        return self.of(session) or {}

    def of(self, session: str) -> Row | None:
        """By its session id or its UUID; soft-deleted rows are not found."""
        found = self._rows("(session_id = ? OR uuid = ?) AND deleted_at IS NULL", session, session)
        return found[0] if found else None

    def all(self) -> list[Row]:
        return self._rows("1 ORDER BY id")

    def live(self) -> list[Row]:
        """In Laravel's order."""
        return self._rows("deleted_at IS NULL ORDER BY id")

    def connected(self, workspace: Any) -> list[Row]:
        return self._rows("workspace_id = ? AND status = 'connected' AND deleted_at IS NULL ORDER BY id", workspace)

    def change(self, session: str, why: str, **fields: Any) -> None:
        before = self.of(session)
        if before is None:
            return
        sets = ", ".join(f"{name} = ?" for name in fields)
        self._db.execute(f"UPDATE whatsapp_accounts SET {sets} WHERE id = ?", (*fields.values(), before["id"]))
        if "status" in fields:
            self._mark(session, before["status"], fields["status"], why)

    def take_phone(self, session: str, workspace: Any, phone: str) -> None:
        """Every other row of the workspace with this phone becomes failed, loses its phone, and is soft-deleted."""
        others = self._rows("workspace_id = ? AND phone_number = ? AND session_id <> ?", workspace, phone, session)
        for other in others:
            self._db.execute(
                "UPDATE whatsapp_accounts SET status = 'failed', phone_number = NULL, deleted_at = ? WHERE id = ?",
                (time.time(), other["id"]),
            )
            self._mark(other["session_id"], other["status"], "failed", f"session_ready of {session}")

    def save(self, session: str, event: str, identity: str | None, body: str, *, once: bool = False) -> None:
        """A message's row; with `once` not a second one of the same id."""
        known = (
            once
            and identity is not None
            and self._db.execute(
                "SELECT 1 FROM messages WHERE event = ? AND message_id = ?", (event, identity)
            ).fetchone()
        )
        if not known:
            self._db.execute(
                "INSERT INTO messages (session_id, event, message_id, body, at) VALUES (?, ?, ?, ?, ?)",
                (session, event, identity, body, time.monotonic()),
            )

    def messages(self) -> list[Row]:
        return [dict(row) for row in self._db.execute("SELECT * FROM messages ORDER BY id")]

    def marks(self) -> list[Row]:
        """Moments by the machine's monotonic clock."""
        return [dict(row) for row in self._db.execute("SELECT * FROM marks ORDER BY id")]

    def script(self, statements: str) -> None:
        """What a person runs on the database."""
        self._db.executescript(statements)

    def select(self, query: str) -> list[Row]:
        return [dict(row) for row in self._db.execute(query)]

    def _rows(self, where: str, *values: Any) -> list[Row]:
        return [dict(row) for row in self._db.execute(f"SELECT * FROM whatsapp_accounts WHERE {where}", values)]

    def _mark(self, session: str, before: str | None, after: str, why: str) -> None:
        self._db.execute(
            "INSERT INTO marks (session_id, before, after, why, at) VALUES (?, ?, ?, ?, ?)",
            (session, before, after, why, time.monotonic()),
        )
