"""The cleaner among workers as they are: an account that is stuck at its QR code goes, one that is connected stays."""

from __future__ import annotations

import pytest

from tests.contract.conftest import Build
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
