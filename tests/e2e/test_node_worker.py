"""A worker in Node with the unmodified whatsapp-web.js client takes part: placed, shown as a code, killed, taken on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from tests.e2e.deployment import SECRETS, Deployment, deployment
from tests.e2e.node_worker import EXAMPLE, installed, node_worker
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SECRET = SECRETS["WHATSAPP_HMAC_SECRET"]
LEASE = 3.0


def test_it_is_short() -> None:
    lines = [line.strip() for line in (EXAMPLE / "worker.js").read_text().splitlines()]
    code = [line for line in lines if line and not line.startswith("//")]
    assert len(code) <= 100
    assert max(map(len, code)) <= 120


def test_its_lockfile_names_no_host() -> None:
    assert "resolved" not in (EXAMPLE / "package-lock.json").read_text()


async def row_of(deployed: Deployment, session: str) -> dict[str, Any]:
    code, out, err = await deployed.run("sessions", "show", session, "--json")
    assert code == 0, err
    row: dict[str, Any] = orjson.loads(out)
    return row


async def test_a_session_is_placed_shown_as_a_qr_code_and_taken_over_by_another_when_its_worker_is_killed(
    short_folder: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    folder = await installed()
    async with deployment(short_folder, (free_port(), free_port())) as deployed:
        await deployed.start_laravel(60)
        await deployed.start_up()
        http = httpx2.AsyncClient(base_url=deployed.gateway, trust_env=False, timeout=15)

        async def registered(name: str) -> bool:
            return any(row["worker"] == name for row in (await deployed.status())["workers"])

        async def arrived(event: str) -> bool:
            return any(one["event"] == event and one["session"] == "s1" for one in await deployed.arrived())

        async def state() -> str:
            answer = await http.get("/api/sessions/s1/status")
            return str(answer.json().get("status")) if answer.status_code == 200 else str(answer.status_code)

        async def connected() -> bool:
            return await state() == "connected"

        start = (deployed.gateway, SECRET, folder, tmp_path)
        port = free_port()
        async with http, node_worker("n1", port, *start) as first:
            await until(lambda: registered("n1"), timeout=30, what=first.said)
            body = {"session_id": "s1", "workspace_id": 7, "api_key": "k"}
            created = await http.post("/api/sessions", json=body)
            assert (created.status_code, created.json()["session_id"]) == (200, "s1"), created.text
            await until(lambda: arrived("qr_code_generated"), timeout=60, what=first.said)
            await until(lambda: arrived("session_ready"), timeout=60, what=first.said)
            await until(connected, timeout=30, what="the session to be connected")
            row = await row_of(deployed, "s1")
            assert row["worker"] == "n1"

            send = {"session_id": "s1", "recipient_phone": "628120000002", "message": "hello"}
            headers = {"X-Sluice-Fence": str(row["fence"]), "X-Sluice-Message-Id": "msg-1"}
            at = f"http://127.0.0.1:{port}/api/messages/send"
            sent, again = await asyncio.gather(*(http.post(at, json=send, headers=headers) for _ in range(2)))
            assert (sent.status_code, sent.json().get("message_id")) == (200, "msg-1"), sent.text
            assert again.json() == sent.json()  # it was sent only once
            await until(lambda: arrived("message_status_updated"), timeout=30, what=first.said)
            assert [one["event"] for one in await deployed.arrived()].count("message_sent") == 1

            async with node_worker("n2", free_port(), *start) as second:
                await until(lambda: registered("n2"), timeout=30, what=second.said)
                await first.kill()

                async def taken_over() -> bool:
                    return (await row_of(deployed, "s1"))["worker"] == "n2"

                await until(taken_over, timeout=LEASE + 30, what=second.said)
                await until(connected, timeout=60, what=second.said)  # the login lies in the folder that both have

                deleted = await http.request("DELETE", "/api/sessions/s1", json={"api_key": "k"})
                assert deleted.status_code == 200, deleted.text
                second.terminate()
                await until(lambda: second.process.returncode == 0, timeout=30, what=second.said)

                async def left() -> bool:
                    return not await registered("n2")

                await until(left, timeout=20, what="n2 to leave")
