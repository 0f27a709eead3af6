"""Rows of Laravel's table `whatsapp_accounts`, as somebody exported them: CSV with a line of names, or JSON.

JSON is a list of objects, such a list under `data`, `sessions` or `accounts`, or what phpMyAdmin writes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import orjson

from sessions.lifecycle.phones import digits
from sluice.config.problems import quoted

MAX_BYTES = 256 * 2**20
MAX_ROWS = 1_000_000
_MAX_CELL = 1_000_000
_NEEDED = ("session_id", "workspace_id", "status")
_LISTS = ("data", "sessions", "accounts")
_NULL = frozenset({"", "NULL", "null", "\\N"})
_SINCE = ("last_activity_at", "updated_at", "connected_at", "created_at")


class Unreadable(Exception):
    """The file is no such export; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    row: int
    """Of the file, the first one is 1."""
    id: int | None
    session: str
    workspace: str
    phone: str
    """Digits only; empty: it has none."""
    status: str
    since: float | None
    """Seconds since 1970 of the last thing that is known to have happened to it."""
    deleted: bool
    instance_url: str


@dataclass(frozen=True, slots=True)
class Table:
    accounts: tuple[Account, ...]
    problems: tuple[str, ...]
    """Rows that were left out, and why."""


def read(data: bytes, zone: tzinfo = UTC) -> Table:
    """`zone`: of moments that name none. Raises Unreadable."""
    if len(data) > MAX_BYTES:
        raise Unreadable(f"the file has over {MAX_BYTES >> 20} MiB; leave qr_code and session_data out of the export")
    rows = _of_json(data) if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{") else _of_csv(data)
    accounts, problems, seen = list[Account](), list[str](), dict[str, int]()
    for number, row in enumerate(rows, 1):
        if number > MAX_ROWS:
            raise Unreadable(f"the file has over {MAX_ROWS:,} rows")
        if number == 1:
            _check_names(row)
        found = _account(number, row, zone)
        if isinstance(found, str):
            problems.append(f"row {number}: {found}")
        elif found.session in seen:
            problems.append(f"row {number}: session {quoted(found.session)} is that of row {seen[found.session]}, too")
        else:
            seen[found.session] = number
            accounts.append(found)
    if not seen and not problems:
        raise Unreadable("the file has no rows")
    return Table(tuple(accounts), tuple(problems))


def _of_csv(data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the file is not UTF-8 (byte {error.start:,}); export it as UTF-8") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    csv.field_size_limit(_MAX_CELL)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for row in rows:
            yield {(name or "").strip(): value for name, value in row.items() if isinstance(value, str)}
    except csv.Error as error:
        raise Unreadable(f"line {rows.line_num} of the file is no CSV: {error}") from None


def _of_json(data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        value = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"the file is no JSON: {error}") from None
    rows = _rows_in(value)
    if rows is None:
        raise Unreadable("the file has no list of accounts; export the table whatsapp_accounts as CSV or JSON")
    for row in rows:
        yield row if isinstance(row, dict) else {}


def _rows_in(value: Any) -> Sequence[Any] | None:
    if isinstance(value, dict):
        return next((value[name] for name in _LISTS if isinstance(value.get(name), list)), None)
    if not isinstance(value, list):
        return None
    tables = [one for one in value if isinstance(one, dict) and one.get("type") == "table"]  # as phpMyAdmin writes it
    if tables:
        return next((one["data"] for one in tables if isinstance(one.get("data"), list)), None)
    return value


def _check_names(row: Mapping[str, Any]) -> None:
    missing = [name for name in _NEEDED if name not in row]
    if missing:
        raise Unreadable(
            f"the file has no column {' and no '.join(missing)}; export at least id, session_id, workspace_id, "
            "phone_number, status, updated_at and deleted_at"
        )


def _account(number: int, row: Mapping[str, Any], zone: tzinfo) -> Account | str:
    """A text: why the row is left out."""
    session, workspace, status = (_text(row.get(name)) for name in _NEEDED)
    for name, value in zip(_NEEDED, (session, workspace, status), strict=True):
        if not value:
            return f"it has no {name}"
        if len(value) > 200:
            return f"its {name} is longer than 200 characters"
    moments = [moment for name in _SINCE if (moment := _moment(_text(row.get(name)), zone)) is not None]
    identity = _text(row.get("id"))
    return Account(
        row=number,
        id=int(identity) if identity.isascii() and identity.isdigit() and len(identity) < 20 else None,
        session=session,
        workspace=workspace,
        phone=digits(_text(row.get("phone_number"))),
        status=status,
        since=max(moments, default=None),
        deleted=bool(_text(row.get("deleted_at"))),
        instance_url=_text(row.get("assigned_instance_url")),
    )


def _text(value: Any) -> str:
    text = "" if value is None or isinstance(value, bool | list | dict) else str(value).strip()
    return "" if text in _NULL else text


def _moment(text: str, zone: tzinfo) -> float | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).timestamp()
