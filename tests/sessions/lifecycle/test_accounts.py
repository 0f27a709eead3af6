"""Exports of Laravel's table are read as people make them, and what is wrong with one is said exactly."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import orjson
import pytest

from sessions.lifecycle import accounts
from sessions.lifecycle.accounts import Account, Unreadable, read

CSV = b"""id,session_id,workspace_id,phone_number,status,updated_at,deleted_at,assigned_instance_url
24,wa-a,1,+49 151 2345,qr_scanning,2026-11-26 12:00:00,NULL,http://localhost:3001
25,"wa-b",1,491512345,disconnected,2026-11-28T12:00:00Z,,\\N
"""
AT = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
FIRST = Account(1, 24, "wa-a", "1", "491512345", "qr_scanning", AT, False, "http://localhost:3001")


def test_csv_is_read_with_its_names_in_any_order() -> None:
    found = read(CSV)
    assert found.problems == ()
    assert found.accounts[0] == FIRST
    assert (found.accounts[1].session, found.accounts[1].instance_url) == ("wa-b", "")


@pytest.mark.parametrize("separator", [b";", b"\t"])
def test_csv_of_a_spreadsheet_is_read(separator: bytes) -> None:
    assert read(b"\xef\xbb\xbf" + CSV.replace(b",", separator).replace(b"\n", b"\r\n")).accounts[0] == FIRST


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda rows: rows,
        lambda rows: {"data": rows},
        lambda rows: {"success": True, "sessions": rows, "count": 1},
        lambda rows: [
            {"type": "header"},
            {"type": "database"},
            {"type": "table", "name": "whatsapp_accounts", "data": rows},
        ],
    ],
)
def test_json_is_read_as_laravel_and_phpmyadmin_write_it(wrapped: object) -> None:
    row = {
        "id": "24",
        "session_id": "wa-a",
        "workspace_id": 1,
        "phone_number": "+49 151 2345",
        "status": "qr_scanning",
        "updated_at": "2026-11-26 12:00:00",
        "deleted_at": None,
        "assigned_instance_url": "http://localhost:3001",
    }
    assert read(orjson.dumps(wrapped([row]))).accounts == (FIRST,)  # type: ignore[operator]


def test_moments_without_a_zone_are_of_the_one_that_is_named() -> None:
    assert read(CSV, ZoneInfo("Asia/Jakarta")).accounts[0].since == AT - 7 * 3600
    assert read(CSV, ZoneInfo("Asia/Jakarta")).accounts[1].since == datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file has no rows"),
        (b"session_id,workspace_id,status\n", "the file has no rows"),
        (b"[]", "the file has no rows"),
        (b"[{]", "the file is no JSON: "),
        (b'{"rows": []}', "the file has no list of accounts; export the table whatsapp_accounts as CSV or JSON"),
        (b"session_id\n\xff", "the file is not UTF-8 (byte 11); export it as UTF-8"),
        (
            b"id,phone\n1,49\n",
            "the file has no column session_id and no workspace_id and no status; export at least id, session_id, "
            "workspace_id, phone_number, status, updated_at and deleted_at",
        ),
    ],
)
def test_a_file_that_is_no_export_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read(data)
    assert str(refused.value).startswith(message)


def test_a_row_that_cannot_be_meant_is_left_out_and_named() -> None:
    rows = (
        b"session_id,workspace_id,status\nwa-a,1,connected\n,1,connected\nwa-a,2,failed\n" + b"x" * 201 + b",1,failed\n"
    )
    found = read(rows)
    assert [one.session for one in found.accounts] == ["wa-a"]
    assert found.problems == (
        "row 2: it has no session_id",
        'row 3: session "wa-a" is that of row 1, too',
        "row 4: its session_id is longer than 200 characters",
    )


def test_a_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MAX_BYTES", 2**20)
    with pytest.raises(Unreadable, match="the file has over 1 MiB; leave qr_code and session_data out of the export"):
        read(b"x" * (2**20 + 1))
    monkeypatch.setattr(accounts, "MAX_ROWS", 1)
    with pytest.raises(Unreadable, match="the file has over 1 rows"):
        read(CSV)
