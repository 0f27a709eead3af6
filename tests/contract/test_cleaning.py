"""The cleaner among workers as they are: an account that is stuck at its QR code goes, one that is connected stays."""

from __future__ import annotations

import pytest

from tests.contract.conftest import Build
from tests.contract.running import log_in
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_a_session_that_is_stuck_at_its_qr_code_is_closed_at_its_worker_and_laravel_is_told(build: Build) -> None:
    async with build(cleanup={"qr_scanning": "2s", "every": "1s"}) as made:
        await made.restored()
        await made.begin(0, "s0", "490")
        await made.connected("s0")
        await made.app.add("stuck", 1, status="qr_scanning")
        created = await made.ask("POST", "/api/sessions", session_id="stuck", workspace_id=1, account_id=2)
        assert created.status_code == 200, created.text

        async def it_is_gone() -> bool:
            statuses = [await worker.status("stuck") for worker in made.workers]
            return statuses == [None, None] and (await made.app.account("stuck"))["status"] == "disconnected"

        await until(it_is_gone, timeout=60)
        assert await made.workers[0].status("s0") == "connected"
        assert (await made.app.account("s0"))["status"] == "connected"
        asked = await made.ask("GET", "/api/sessions/stuck/status")
        assert (asked.status_code, asked.json()) == (404, {"error": "Session not found"})
        again = await made.ask("POST", "/api/sessions", session_id="stuck", workspace_id=1, account_id=2)
        assert again.status_code == 200, again.text


@pytest.mark.parametrize("keep", ["newest", "oldest", "allow"])
async def test_of_three_accounts_of_a_phone_the_connected_one_is_left(build: Build, keep: str) -> None:
    """24 is stuck at its QR code, 25 has lost its connection, 27 is connected."""
    cleanup = {"qr_scanning": "3s", "disconnected": "3s", "every": "1s"}
    async with build(one_phone={"keep": keep, "enforce": True}, cleanup=cleanup) as made:
        await made.restored()
        await made.begin(0, "wa-25", "490")
        await made.connected("wa-25")
        made.phones.throw_out("wa-25", "NAVIGATION")
        await made.app.add("wa-24", 0, status="qr_scanning")
        created = await made.ask("POST", "/api/sessions", session_id="wa-24", workspace_id=0, account_id=24)
        assert created.status_code == 200, created.text
        await made.app.add("wa-27", 0, status="qr_scanning")
        for number in range(len(made.workers)):
            log_in(made.profiles(number), "wa-27", 0, "490")
        created = await made.ask("POST", "/api/sessions", session_id="wa-27", workspace_id=0, account_id=27)
        assert created.status_code == 200, created.text

        async def one_is_left() -> bool:
            rows = [row for row in (await made.app.accounts()).values() if row["deleted_at"] is None]
            connected = [row["session_id"] for row in rows if row["status"] == "connected"]
            runs = [name for worker in made.workers for name in (await worker.state())["sessions"]]
            return connected == runs == ["wa-27"]

        await until(one_is_left, timeout=60)
