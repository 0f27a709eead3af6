"""What docs/rollback.md says is run as it stands there, on the contract Laravel's table."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.contract.accounts import Accounts, Row

PAGE = (Path(__file__).parent.parent / "docs" / "rollback.md").read_text()
GATEWAY = "http://127.0.0.1:8080"
ONE, TWO = "http://localhost:3001", "http://localhost:3002"


def sql(name: str) -> str:
    """The block that begins with this comment."""
    found = re.search(rf"```sql\n( *)-- {name}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[2]


@pytest.fixture
def accounts() -> Accounts:
    """Of five workspaces, on two workers; the last one was soft-deleted."""
    made = Accounts()
    for workspace, url in enumerate((ONE, TWO, "http://127.0.0.1:3001", None)):
        made.add(f"s{workspace}", workspace, status="connected", assigned_instance_url=url)
    made.add("gone", 4, status="failed", assigned_instance_url=ONE, deleted_at=1.0)
    return made


def urls(accounts: Accounts) -> dict[str, str | None]:
    return {row["session_id"]: row["assigned_instance_url"] for row in accounts.all()}


def found(accounts: Accounts, name: str) -> list[Row]:
    return accounts.select(sql(name))


def test_laravel_calls_the_gateway_after_the_step_in(accounts: Accounts) -> None:
    assert [row["session_id"] for row in found(accounts, "past")] == ["s0", "s1", "s2", "s3"]
    accounts.script(sql("in"))
    assert urls(accounts) == {"s0": GATEWAY, "s1": GATEWAY, "s2": GATEWAY, "s3": None, "gone": GATEWAY}
    assert [row["session_id"] for row in found(accounts, "past")] == ["s3"], "which has no address yet"


def test_after_the_steps_out_no_row_leads_to_the_gateway(accounts: Accounts) -> None:
    accounts.script(sql("in"))
    accounts.change("s3", "session_ready", assigned_instance_url=f"{GATEWAY}/")
    assert len(found(accounts, "left")) == 5
    accounts.script(sql("out"))
    assert urls(accounts) == {"s0": ONE, "s1": TWO, "s2": ONE, "s3": TWO, "gone": ONE}
    assert found(accounts, "left") == []


def test_what_sluice_knows_goes_before_laravels_way_of_dividing(accounts: Accounts) -> None:
    """s1 was moved from the second worker to the first; a name with a quote in it is nothing for SQL."""
    accounts.script(sql("in"))
    program = re.search(r"jq -r '(.*?)' > restore.sql", PAGE, re.DOTALL)
    assert program is not None
    listed = [
        {"session": "s1", "url": ONE},
        {"session": "s2", "url": None},
        {"session": "x'; DROP TABLE whatsapp_accounts; --", "url": ONE},
    ]
    made = subprocess.run(
        ["jq", "-r", program[1]], input=json.dumps({"sessions": listed}), text=True, capture_output=True, check=True
    )
    assert made.stdout.splitlines() == [
        f"UPDATE whatsapp_accounts SET assigned_instance_url = '{ONE}' WHERE session_id = 's1';"
    ]
    accounts.script(made.stdout)
    accounts.script(sql("out"))
    assert urls(accounts)["s1"] == ONE
    assert found(accounts, "left") == []
