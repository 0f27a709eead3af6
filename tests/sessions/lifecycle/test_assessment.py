"""The case of the field: three accounts of one phone, one of them stuck at its QR code for four days."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, strategies as st

from sessions.lifecycle.accounts import Account
from sessions.lifecycle.assessment import Assessment, assess
from sessions.lifecycle.laravel_sql import clean_up
from sessions.lifecycle.phones import Keep
from sessions.lifecycle.stale import StaleAfter
from tests.contract.accounts import Accounts

NOW = 1_800_000_000.0
DAY = 86400.0
STATUSES = ["qr_scanning", "authenticated", "connected", "disconnected", "failed", "pending"]


def account(
    identity: int, status: str, age: float | None = 0.0, *, phone: str = "491512345", **more: object
) -> Account:
    since = None if age is None else NOW - age
    values = {"deleted": False, "instance_url": "", "workspace": "1"} | more
    return Account(
        row=identity, id=identity, session=f"wa-{identity}", phone=phone, status=status, since=since, **values
    )  # type: ignore[arg-type]


THE_CASE = (account(24, "qr_scanning", 4 * DAY), account(25, "disconnected", 2 * DAY), account(27, "connected"))


@pytest.mark.parametrize("keep", ["newest", "oldest", "allow"])
def test_the_case_ends_with_the_connected_account_alone(keep: Keep) -> None:
    found = assess(THE_CASE, keep, StaleAfter(), NOW)
    assert [one.id for one in found.kept] == [27]
    assert [(one.account.id, one.why, one.detail) for one in found.removals] == [
        (24, "duplicate", "qr_scanning; account 27 has its phone"),
        (25, "duplicate", "disconnected; account 27 has its phone"),
    ]


def test_without_a_phone_the_stuck_one_is_stale() -> None:
    found = assess(
        [account(24, "qr_scanning", 4 * DAY, phone=""), account(28, "qr_scanning", 60, phone="")],
        "newest",
        StaleAfter(),
        NOW,
    )
    assert [(one.account.id, one.why, one.detail) for one in found.removals] == [(24, "stale", "qr_scanning for 4d")]
    assert [one.id for one in found.kept] == [28]


def test_what_has_no_moment_is_kept_and_named() -> None:
    found = assess([account(24, "failed", None, phone=""), account(27, "connected", None)], "newest", StaleAfter(), NOW)
    assert ([one.id for one in found.kept], [one.id for one in found.undated]) == ([24, 27], [24])


def test_the_sql_cleans_laravels_table_with_its_unique_index() -> None:
    laravel = Accounts()
    laravel.add("wa-24", 1, id=24, phone_number="491512345", status="qr_scanning")
    laravel.add("wa-25", 1, id=25, phone_number="491512345", status="disconnected")
    laravel.add("wa-27", 1, id=27, phone_number="491512345", status="connected")
    laravel.add("wa-20", 1, id=20, phone_number="491512345", status="failed", deleted_at=1.0)
    found = assess([*THE_CASE, account(20, "failed", deleted=True)], "newest", StaleAfter(), NOW)
    laravel._db.executescript("\n".join(clean_up(found)))
    assert [row["id"] for row in laravel.live()] == [27]
    assert {row["id"]: row["phone_number"] for row in laravel.all()} == {20: None, 24: None, 25: None, 27: "491512345"}


def test_the_sql_leaves_alone_what_has_changed_since_the_export() -> None:
    laravel = Accounts()
    laravel.add("wa-24", 1, id=24, phone_number="491512345", status="connected")
    laravel._db.executescript("\n".join(clean_up(assess(THE_CASE, "newest", StaleAfter(), NOW))))
    assert [(row["id"], row["status"]) for row in laravel.live()] == [(24, "connected")]


@pytest.mark.parametrize("session", ["x'; DROP TABLE whatsapp_accounts; --", "back\\slash", "new\nline", "é"])
def test_no_text_of_a_stranger_gets_into_the_sql(session: str) -> None:
    hostile = Account(3, None, session, "1", "49", "failed", NOW - 9 * DAY, False, "")
    by_id = Account(4, 4, session + "2", "1", "49", "failed' OR 1=1", NOW - 9 * DAY, True, "")
    written = "\n".join(clean_up(assess([hostile, by_id], "newest", StaleAfter(), NOW)))
    assert session.partition("\n")[0] not in written
    assert "-- row 3: stale\n--   left out: " in written
    assert "WHERE id = 4 AND deleted_at IS NOT NULL;" in written
    sqlite3.complete_statement(written)


ACCOUNTS = st.lists(
    st.tuples(
        st.sampled_from(STATUSES),
        st.sampled_from([0.0, 1801.0, 2 * DAY, None]),
        st.sampled_from(["", "49", "62"]),
        st.booleans(),
    ),
    max_size=10,
).map(
    lambda rows: [
        account(n, status, age, phone=phone, deleted=gone) for n, (status, age, phone, gone) in enumerate(rows)
    ]
)


@given(ACCOUNTS, st.sampled_from(["newest", "oldest", "allow"]))
def test_each_live_account_is_kept_or_removed_and_no_connected_one_but_for_a_connected_one(
    rows: list[Account], keep: Keep
) -> None:
    found: Assessment = assess(rows, keep, StaleAfter(), NOW)
    removed = [one.account for one in found.removals]
    assert sorted(one.row for one in (*found.kept, *removed)) == [one.row for one in rows if not one.deleted]
    kept_connected = {(one.workspace, one.phone) for one in found.kept if one.status == "connected"}
    assert all((one.workspace, one.phone) in kept_connected for one in removed if one.status == "connected")
