"""What all workers of ours have in common, with the demo's logins: it needs no browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import httpx2
import pytest

from sluice.demo.worker import DemoWorker
from tests.sessions.worker.receiving import Receiver, received
from tests.sluice.demo.serving import SIGNATURE, served
from tests.waiting import until

pytestmark = pytest.mark.anyio

SESSION = "webjs_7_1700000000_abcdefgh"
WITHIN = 30.0
TO = {"session_id": SESSION, "recipient_phone": "+49 (17) 123-45", "message": "hi"}


@dataclass
class Stage:
    worker: DemoWorker
    api: httpx2.AsyncClient
    told: Receiver

    async def connected(self) -> None:
        await self.worker.start(SESSION, 3)
        await until(lambda: self.worker.state(SESSION)[0] == "connected", timeout=WITHIN)


@asynccontextmanager
async def on_stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        told, address = await stack.enter_async_context(received())
        worker = DemoWorker("w1", address, SIGNATURE, "http://w1:3000", traffic=False, drain_timeout=WITHIN)
        stack.push_async_callback(worker.close)
        own = await stack.enter_async_context(served(worker.app()))
        api = await stack.enter_async_context(httpx2.AsyncClient(base_url=own, timeout=WITHIN))
        yield Stage(worker, api, told)


async def test_what_the_membership_refuses_does_not_run() -> None:
    async with on_stage() as stage:
        stage.worker.accept = lambda session, fence: fence == 4
        for fence, status in ((3, 421), (4, 200)):
            headers = {"X-Sluice-Fence": str(fence)}
            answer = await stage.api.post("/api/sessions", json={"session_id": SESSION}, headers=headers)
            assert answer.status_code == status


async def test_the_workspace_is_that_of_the_create() -> None:
    async with on_stage() as stage:
        for given, workspace in ((9, 9), ("11", 11), (True, 11), ("no", 11), (None, 11)):
            create = {"session_id": SESSION, "workspace_id": given}
            await stage.api.post("/api/sessions", json=create, headers={"X-Sluice-Fence": "3"})
            login = stage.worker.login(SESSION)
            assert login is not None
            assert login.workspace == workspace
        await until(lambda: stage.told.of("session_ready"), timeout=WITHIN)
        assert stage.told.of("session_ready")[0]["workspace_id"] in (9, 11)


async def test_one_that_is_deleted_is_ended_before_the_membership_forgets_it() -> None:
    async with on_stage() as stage:
        seen: list[tuple[str, int, bool]] = []
        stage.worker.on_gone = lambda session, fence: seen.append((session, fence, stage.worker.login(session) is None))
        await stage.connected()
        await stage.api.delete(f"/api/sessions/{SESSION}")
        assert seen == [(SESSION, 3, True)]


async def test_a_close_waits_for_what_is_ending() -> None:
    async with on_stage() as stage:
        await stage.connected()
        ending = asyncio.create_task(stage.worker.stop(SESSION))
        await asyncio.sleep(0)
        await stage.worker.close()
        assert ending.done()
        await ending


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("send", {}, 400, "session_id is missing or not a text"),
        ("send", {"session_id": SESSION}, 400, "recipient_phone is missing or not a text"),
        (
            *("send", {"session_id": SESSION, "recipient_phone": "Ann", "message": "hi"}, 400),
            "recipient_phone is no phone number with the code of its country, and no chat",
        ),
        ("send", {"session_id": "other", "recipient_phone": "49123", "message": "hi"}, 421, "not the owner"),
        ("send-media", TO, 400, "media_url is missing or not a text"),
        (
            *("send-media", {**TO, "media_url": "file:///etc/passwd"}, 400),
            "media_url: it is no address that begins with http:// or https://",
        ),
        ("bulk-send", {**TO, "recipients": []}, 400, "recipients is a list of 1 to 10000"),
        ("bulk-send", {**TO, "recipients": "49"}, 400, "recipients is a list of 1 to 10000"),
    ],
)
async def test_what_is_wrong_with_a_send_is_said(path: str, body: dict[str, object], status: int, error: str) -> None:
    async with on_stage() as stage:
        await stage.connected()
        answer = await stage.api.post(f"/api/messages/{path}", json=body)
        assert (answer.status_code, answer.json()) == (status, {"success": False, "error": error})


async def test_of_many_each_is_sent_once_and_what_fails_is_named() -> None:
    async with on_stage() as stage:
        await stage.connected()
        body = {"session_id": SESSION, "recipients": ["4917100001", "Ann", "123-456@g.us"], "message": "hi"}
        for _ in range(2):
            answer = await stage.api.post("/api/messages/bulk-send", json=body, headers={"X-Sluice-Message-Id": "b1"})
            about = answer.json()
            assert (about["total"], about["successful"], about["failed"]) == (3, 2, 1)
            assert [one["message_id"] for one in about["results"]] == ["b1.0", "b1.2"]
            assert about["errors"][0]["recipient"] == "Ann"
        await until(lambda: len(stage.told.of("message_sent")) >= 2, timeout=WITHIN)
        assert [one["message"]["id"] for one in stage.told.of("message_sent")] == ["b1.0", "b1.2"]


async def test_a_session_without_a_code_says_how_it_stands() -> None:
    async with on_stage() as stage:
        await stage.connected()
        answer = await stage.api.get(f"/api/sessions/{SESSION}/qr")
        assert (answer.status_code, answer.json()["error"]) == (404, "the session shows no code: it is connected")
        answer = await stage.api.post(f"/api/sessions/{SESSION}/pairing-code", json={"phone_number": "x"})
        error = "phone_number has 5 to 20 digits, with the code of its country"
        assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_what_laravel_asks_besides_is_answered() -> None:
    async with on_stage() as stage:
        await stage.connected()
        listed = (await stage.api.get("/api/sessions")).json()
        assert (listed["total"], listed["sessions"][0]["phone_number"]) == (1, stage.worker.state(SESSION)[1])
        valid = (await stage.api.get(f"/api/messages/{SESSION}/validate")).json()
        assert (valid["can_send"], valid["is_healthy"], valid["recommendations"]) == (True, True, [])
        message = (await stage.api.get(f"/api/messages/{SESSION}/status?message_id=m1")).json()
        assert (message["message_id"], message["session_status"]) == ("m1", "connected")
        assert (await stage.api.get(f"/api/messages/{SESSION}/status")).status_code == 400
        active = (await stage.api.get(f"/api/internal/sessions/{SESSION}/last-activity")).json()
        assert active["data"]["last_activity"].endswith("Z")
