"""`sluice sessions import` as a person runs it."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from gateway.policies import load
from sessions.registry import Registry, Report
from sluice.console.audit import path_of
from sluice.store.client import Store
from tests.sessions.making import keep, register
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
    assert "nothing was changed; --clean ends them in Sluice, --sql prints what to run on Laravel's database" in ran.out


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


# --- --clean


@pytest.fixture
def policies(tmp_path: Path, store_url: str) -> Path:
    (tmp_path / "policies.yaml").write_text(
        f'version: 1\nstore: {{url: "{store_url}"}}\nrelay: {{endpoints: {{laravel: {{url: http://127.0.0.1:1}}}}}}\n'
        "sessions: {cleanup: {qr_scanning: 1ms}}\n"
    )
    return tmp_path / "policies.yaml"


@pytest.fixture
async def live(store: Store) -> Registry:
    """24 stands at its QR code, 25 is disconnected, 27 connected, at a worker of ours."""
    registry = Registry(store, 60.0)
    await register(registry, "w1")
    await registry.want({name: {"workspace_id": 1} for name in ("wa-a", "wa-b", "wa-c")})
    await keep(registry)
    await says(registry, {"wa-a": "qr_scanning", "wa-b": "disconnected", "wa-c": "connected"})
    return registry


async def says(registry: Registry, states: dict[str, str]) -> None:
    held = await registry.beat("w1", "1", {}, {})
    reports = {name: Report(held[name], state, "491512345") for name, state in states.items() if name in held}
    await registry.beat("w1", "1", reports, {})


async def ended(registry: Registry) -> dict[str, str | None]:
    return {row.session: row.reason for row in await registry.sessions() if row.ended}


@pytest.mark.anyio
async def test_what_the_file_and_the_registry_agree_on_is_ended(live: Registry, file: Path, policies: Path) -> None:
    command = ("sessions", "import", file, "--clean", "--policies", policies)
    ran = sluice(*command, "--dry-run")
    assert (ran.code, await ended(live)) == (0, {})
    assert [" ".join(line.split()) for line in ran.out.splitlines()[1:]] == [
        "wa-a would end qr_scanning for 0m",
        "wa-b would end disconnected; wa-c is connected with its phone",
        "2 would end",
    ]
    ran = sluice(*command)
    assert (ran.code, ran.err) == (1, "sluice: nothing was ended; say yes, or give --yes\n")
    assert (await ended(live), sluice(*command, "--json").code) == ({}, 1)
    told = orjson.loads(sluice(*command, "--yes", "--json").out)
    assert [(one["session"], one["outcome"]) for one in told["accounts"]] == [("wa-a", "ended"), ("wa-b", "ended")]
    assert await ended(live) == {"wa-a": "deleted", "wa-b": "superseded by wa-c"}
    assert [row.session for row in await live.sessions() if not row.ended] == ["wa-c"]
    (line,) = map(orjson.loads, path_of(load(policies)).read_text().splitlines())
    assert [one["session"] for one in line["request"]["accounts"]] == ["wa-a", "wa-b"]
    assert sluice(*command).out.splitlines()[-1] == "2 ended before"


@pytest.mark.anyio
async def test_a_file_that_is_older_than_the_registry_ends_nothing_that_is_connected_now(
    live: Registry, file: Path, policies: Path
) -> None:
    live.keep = "allow"
    await says(live, {"wa-a": "connected", "wa-b": "connected", "wa-c": "disconnected"})
    ran = sluice("sessions", "import", file, "--clean", "--yes", "--policies", policies)
    assert [" ".join(line.split()) for line in ran.out.splitlines()[1:]] == [
        "wa-a connected connected at w1",
        "wa-b connected connected at w1",
        "2 connected",
    ]
    assert (ran.code, await ended(live)) == (0, {})


@pytest.mark.anyio
async def test_what_is_of_use_by_the_registry_or_unknown_there_stays(
    live: Registry, file: Path, policies: Path
) -> None:
    file.write_text(CSV.replace("wa-a,1", "wa-x,1").replace("27,wa-c,1", "27,wa-y,1"))
    ran = sluice("sessions", "import", file, "--clean", "--yes", "--policies", policies)
    assert [" ".join(line.split()) for line in ran.out.splitlines()[1:]] == [
        "wa-x unknown Sluice does not know it",
        "wa-b not agreed disconnected at w1 for 0m",
        "1 not agreed, 1 unknown",
    ]
    assert await ended(live) == {}


def test_where_no_account_is_to_go_nothing_is_asked(file: Path) -> None:
    file.write_text("session_id,workspace_id,status\ns1,1,connected\n")
    ran = sluice("sessions", "import", file, "--clean")
    assert (ran.code, ran.out) == (0, "no account is to go\n")


def test_sql_and_clean_exclude_each_other(file: Path) -> None:
    ran = sluice("sessions", "import", file, "--clean", "--sql")
    assert (ran.code, ran.err.splitlines()[-1]) == (
        2,
        "sluice sessions import: error: argument --sql: not allowed with argument --clean",
    )
