"""`sluice sessions import` as a person runs it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.sluice.cli.command import sluice

CSV = """id,session_id,workspace_id,phone_number,status,updated_at,deleted_at
24,wa-a,1,491512345,qr_scanning,2026-11-20 12:00:00,
25,wa-b,1,491512345,disconnected,2026-11-20 12:00:00,
27,wa-c,1,491512345,connected,2026-11-24 12:00:00,
20,wa-d,1,491512345,failed,2026-01-01 12:00:00,2026-02-01 12:00:00
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "accounts.csv").write_text(CSV)
    return tmp_path / "accounts.csv"


def test_it_says_what_would_stay_and_changes_nothing(file: Path) -> None:
    ran = sluice("sessions", "import", file)
    assert ran.code == 0, ran.err
    assert "qr_scanning; account 27 has its phone" in ran.out
    assert "3 accounts: 1 stay, 2 are duplicates, 0 are stale" in ran.out
    assert "1 were removed before and still hold a phone, which the unique index counts" in ran.out
    assert "nothing was changed; with --sql it prints what to run on Laravel's database" in ran.out


def test_as_json(file: Path) -> None:
    told = orjson.loads(sluice("sessions", "import", file, "--json").out)
    assert [one["id"] for one in told["kept"]] == [27]
    assert [one["account"]["id"] for one in told["removals"]] == [24, 25]


def test_as_sql(file: Path) -> None:
    ran = sluice("sessions", "import", file, "--sql")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1] == "BEGIN;"
    assert "WHERE id = 24 AND status = 'qr_scanning' AND deleted_at IS NULL;" in ran.out


def test_rows_that_are_left_out_are_named_and_make_the_exit_code_1(file: Path) -> None:
    file.write_text(CSV + "30,,1,,failed,,\n")
    ran = sluice("sessions", "import", file)
    assert (ran.code, "left out: row 5: it has no session_id" in ran.out) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.csv",), "sluice: nowhere.csv cannot be read: No such file or directory"),
        (("accounts.csv", "--zone", "Moon/Base"), '"Moon/Base" is no time zone; write UTC or Europe/Berlin'),
        (("accounts.csv", "--keep", "all"), "invalid choice: 'all'"),
    ],
)
def test_what_a_person_gets_wrong(file: Path, arguments: tuple[str, ...], message: str) -> None:
    ran = sluice("sessions", "import", *arguments, folder=file.parent)
    assert ran.code == 2
    assert message in ran.err
