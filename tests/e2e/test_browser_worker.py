"""`sluice up` with a worker that runs a session in a real browser: from a create to a send, and a clean end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from sessions.worker.browser import wa_js
from sluice.process import npm
from sluice.process.descendants import descendants
from tests.e2e.deployment import deployment
from tests.waiting import until
from tests.whatsapp.server import whatsapp

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SESSION = "webjs_7_1700000000_abcdefgh"
PHONE = "4915112345678"
WITHIN = 120.0


async def test_a_session_is_created_scanned_and_sends_through_the_gateway(
    short_folder: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    await asyncio.to_thread(npm.install, (wa_js.PACKAGE,), wa_js.FOLDER)
    async with whatsapp(tmp_path) as phones, deployment(short_folder, (free_port(), free_port())) as deployed:
        text = deployed.file.read_text()
        browser = f"sessions: {{browser: {{path: {phones.browser}}}, lease: 15s, "
        deployed.file.write_text(text.replace("sessions: {lease: 3s, ", browser))
        await deployed.start_laravel(60)
        await deployed.start_up()

        async def registered() -> bool:
            return [row["worker"] for row in (await deployed.status())["workers"]] == ["browser-1"]

        await until(registered, timeout=WITHIN, what=deployed.said)
        async with httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=60) as laravel:
            create = {"session_id": SESSION, "workspace_id": 7, "account_id": 1, "api_key": "k"}
            assert (await laravel.post("/api/sessions", json=create)).json()["status"] == "qr_scanning"

            async def shows_a_code() -> bool:
                return (await laravel.get(f"/api/sessions/{SESSION}/qr")).status_code == 200

            await until(shows_a_code, timeout=WITHIN, what=deployed.said)
            await phones.scan(PHONE)

            async def connected() -> bool:
                answer = await laravel.get(f"/api/sessions/{SESSION}/status")
                return bool(answer.json().get("status") == "connected")

            await until(connected, timeout=WITHIN, what=deployed.said)
            message = {"session_id": SESSION, "workspace_id": 7, "recipient_phone": "+4917000000001", "message": "hi"}
            sent = await laravel.post("/api/messages/send", json=message)
            assert sent.json()["success"] is True, sent.text
            assert [one.body for one in phones.sent] == ["hi"]

        events: set[str] = set()

        async def all_told() -> bool:
            events.update(one["event"] for one in await deployed.arrived() if one["session"] == SESSION)
            return {"qr_code_generated", "session_ready", "message_sent"} <= events

        await until(all_told, timeout=WITHIN, what=lambda: f"all events; there are {events}")
        assert deployed.up is not None
        family = [deployed.up.pid, *descendants(deployed.up.pid)]
        browsers = [pid for pid in family if b"--user-data-dir" in command_line(pid)]
        assert browsers
        deployed.up.terminate()
        async with asyncio.timeout(WITHIN):
            assert await deployed.up.wait() == 0
        await until(lambda: not any(b"--user-data-dir" in command_line(pid) for pid in browsers), timeout=WITHIN)


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
