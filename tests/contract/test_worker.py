"""The contract worker keeps the contract, its faults included (research: the contract, sections 1 to 4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.running import ContractLaravel, ContractWorker, laravel, log_in, worker
from tests.contract.whatsapp import WhatsApp, whatsapp
from tests.waiting import until

pytestmark = pytest.mark.anyio

KEY = {"api_key": "k"}
Both = tuple[ContractLaravel, ContractWorker, WhatsApp]


@pytest.fixture
async def both(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[Both]:
    """A Laravel and a worker that call each other directly."""
    port, instance = free_port(), free_port()
    async with (
        whatsapp() as phones,
        laravel(port, [f"http://127.0.0.1:{instance}"], tmp_path, "--api-key", "k") as app,
        worker(instance, f"http://127.0.0.1:{port}", tmp_path, phones, "--api-key", "k") as one,
    ):
        await until(lambda: restored(one))
        yield app, one, phones


async def restored(one: ContractWorker) -> bool:
    return not (await one.state())["restoring"]


async def connect(both: Both, session: str, phone: str, workspace: int = 1) -> None:
    app, one, phones = both
    if session not in await app.accounts():
        await app.add(session, workspace)
    assert (await app.do("create", session))["status"] == 200
    await until(lambda: _scanning(one, session))
    phones.scan(session, phone)
    await until(lambda: _ready(app, session))


async def _scanning(one: ContractWorker, session: str) -> bool:
    return await one.status(session) == "qr_scanning"


async def _ready(app: ContractLaravel, session: str) -> bool:
    return bool((await app.account(session))["status"] == "connected")


@pytest.mark.parametrize(
    ("method", "target", "how", "status"),
    [
        ("GET", "/api/sessions?api_key=k", {}, 200),
        ("GET", "/API/Sessions/?api_key=k", {}, 200),
        ("GET", "/api/sessions", {}, 401),
        ("GET", "/api/sessions", {"headers": {"X-API-Key": "k"}}, 401),
        ("GET", "/api/sessions?api_key=k&api_key=k", {}, 401),
        ("DELETE", "/api/sessions/nobody", {"json": KEY}, 200),
        ("DELETE", "/api/sessions/nobody?api_key=k", {}, 401),
        ("DELETE", "/api/sessions/nobody", {"data": KEY}, 200),
        ("POST", "/api/messages/send", {"json": {"api_key": None}}, 401),
        ("POST", "/api/messages/send", {"json": KEY}, 400),
        ("GET", "/api/sessions/nobody/status?api_key=k", {}, 404),
        ("POST", "/api/sessions/nobody/restore", {"json": KEY}, 500),
        ("GET", "/health", {}, 200),
        ("GET", "/health/live", {}, 503),
        ("GET", "/health/metrics", {}, 404),
        ("GET", "/nothing", {}, 404),
    ],
)
async def test_the_key_counts_in_the_query_of_get_and_in_the_body_of_all_others(
    both: Both, method: str, target: str, how: dict[str, Any], status: int
) -> None:
    assert (await both[1].ask(method, target, **how)).status_code == status


async def test_without_a_key_it_refuses_whoever_brings_one(both: Both) -> None:
    await both[1].set(key=None)
    assert (await both[1].ask("GET", "/api/sessions")).status_code == 200
    assert (await both[1].ask("GET", "/api/sessions?api_key=k")).status_code == 401
    assert (await both[1].ask("DELETE", "/api/sessions/x", json={"api_key": None})).status_code == 401


async def test_malformed_json_and_huge_bodies_get_html_before_anything_else(both: Both) -> None:
    headers = {"content-type": "application/json"}
    for path in ("/api/sessions", "/health"):
        answer = await both[1].ask("POST", path, content=b"{", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (400, "text/html; charset=utf-8")
    answer = await both[1].ask("POST", "/api/sessions", content=b" " * (50 * 1024 * 1024 + 1), headers=headers)
    assert (answer.status_code, "PayloadTooLargeError" in answer.text) == (413, True)


async def test_a_session_goes_from_its_qr_code_to_connected_and_both_sides_know(both: Both) -> None:
    app, one, _ = both
    await connect(both, "s1", "4911")
    assert [hook["event"] for hook in await app.shown("webhooks")] == [
        "qr_code_generated",
        "session_authenticated",
        "session_ready",
    ]
    assert (await app.account("s1"))["assigned_instance_url"] == f"http://localhost:{one.port}"
    listed = (await one.ask("GET", "/api/sessions", params=KEY)).json()
    assert listed["total"] == 1
    assert listed["sessions"][0].keys() == {"session_id", "workspace_id", "status", "phone_number", "connected_at"}
    status = (await one.ask("GET", "/api/sessions/s1/status", params=KEY)).json()
    assert status.keys() == {*listed["sessions"][0], "last_activity"}


async def test_delete_leaves_the_profile_and_a_create_of_it_needs_no_qr(both: Both) -> None:
    app, _, phones = both
    await connect(both, "s1", "4911")
    assert (await app.do("disconnect", "s1"))["value"]["success"] is True
    assert (await app.do("disconnect", "s1"))["value"]["alreadyDisconnected"] is True
    assert (await app.account("s1"))["status"] == "disconnected"
    await app.do("create", "s1")
    await until(lambda: _ready(app, "s1"))
    assert len(await app.shown("webhooks")) == 5, "no second QR code"
    assert phones.ran_twice() == []
    await app.do("reconnect", "s1")
    await until(lambda: phones.connected("s1"))
    assert (phones.starts["s1"], phones.double_logins) == (3, [])


async def test_a_create_of_a_running_session_opens_a_second_browser_on_its_profile(both: Both) -> None:
    app, one, phones = both
    await connect(both, "s1", "4911")
    await app.do("create", "s1")
    await until(lambda: phones.double_logins)
    assert [twice.same_profile for twice in phones.ran_twice()] == [True]
    await until(lambda: _ready(app, "s1"))
    await one.set(fails=1)
    assert (await app.do("create", "s1"))["status"] == 500
    assert await one.status("s1") is None, "it has left the list while its browser runs"
    assert len(phones.running("s1")) == 2


async def test_a_second_device_of_a_profile_throws_the_older_one_out(
    both: Both, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    app, one, phones = both
    await connect(both, "s1", "4911")
    shared = ("--profiles", str(tmp_path / f"profiles-{one.port}"), "--api-key", "k")
    async with worker(free_port(), app.url, tmp_path, phones, *shared) as other:
        await until(lambda: phones.double_logins)
        await until(lambda: _is(one, "s1", "disconnected"))
        await until(lambda: _is(other, "s1", "connected"))
        assert [twice.older for twice in phones.double_logins] == [f"127.0.0.1:{one.port}"]
        events = {hook["event"] for hook in await app.shown("webhooks")}
        assert {"session_disconnected"} < events
    assert phones.connected("s1") == [], "a killed worker's browsers end with it"


async def _is(one: ContractWorker, session: str, status: str) -> bool:
    return await one.status(session) == status


async def test_at_its_start_it_starts_every_account_that_laravel_has_one_by_one(
    both: Both, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    app, one, phones = both
    for number in range(6):
        await app.add(f"s{number}", number, status="connected", phone_number=f"49{number}")
        log_in(tmp_path / f"profiles-{one.port}", f"s{number}", number, f"49{number}")
    await one.kill()
    await one.start()
    seen: list[int] = []

    async def all_there() -> bool:
        seen.append(len((await one.state())["sessions"]))
        return seen[-1] == 6

    await until(all_there)
    assert len(set(seen)) > 3, "one after the other"
    await until(lambda: restored(one))
    calls = [other["path"] for other in await app.shown("others")]
    assert calls.count("/api/whatsapp/accounts/active") == 2, "once at each start"
    assert phones.ran_twice() == []


async def test_a_bulk_send_over_the_limit_of_its_path_ends_the_process(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    quick = ("--limits-scale", "0.02", "--bulk-pause", "0.1")
    async with worker(free_port(), f"http://127.0.0.1:{port}", tmp_path, None, *quick) as one:
        await one.ask("POST", "/api/sessions", json={"session_id": "s1", "workspace_id": 1})
        unknown = await one.ask(
            "POST", "/api/messages/bulk-send", json={"session_id": "x", "recipients": ["49123456"], "message": "m"}
        )
        assert (unknown.status_code, unknown.json()["success"], unknown.json()["failed"]) == (200, True, 1)
        await one.set(slow={"/api/messages/bulk-send": 2.0})
        asking = asyncio.create_task(one.ask("POST", "/api/messages/bulk-send", json={"session_id": "s1"}))
        assert await one.ended() == 1
        with pytest.raises(httpx2.HTTPError):
            await asking


async def test_at_sigterm_it_closes_its_browsers_one_by_one_with_its_port_open(both: Both) -> None:
    app, one, phones = both
    for number in range(3):
        await app.add(f"s{number}", 1)
        await app.do("create", f"s{number}")
    assert one.process is not None
    one.process.terminate()
    assert (await one.ask("GET", "/health")).status_code == 200
    assert await one.ended() == 0
    ended = sorted(browser.closed or 0 for browser in phones.browsers.values())
    assert ended[0] < ended[1] < ended[2]


async def test_a_message_is_lost_behind_a_200_when_no_session_of_its_worker_is_connected(both: Both) -> None:
    app, one, _ = both
    await one.receive("s1", identity="m0")
    await connect(both, "s1", "4911")
    await one.receive("s1", identity="m1")
    await until(lambda: _messages(app, 1))
    await one.set(says={"/health": [200, {"status": "healthy"}]})
    await one.receive("s1", identity="m2")

    async def lost() -> bool:
        hooks = {hook["message_id"]: hook for hook in await app.shown("webhooks")}
        return "m2" in hooks and (hooks["m2"]["status"], hooks["m2"]["became"][:4]) == (200, "lost")

    await until(lost)
    assert [row["message_id"] for row in await app.shown("messages")] == ["m1"]


async def _messages(app: ContractLaravel, count: int) -> bool:
    return len(await app.shown("messages")) == count


@pytest.mark.parametrize(("status", "marked"), [(200, False), (401, True), (404, True), (429, True), (503, True)])
async def test_any_answer_but_a_2xx_to_a_health_check_disconnects_the_row(
    both: Both, status: int, marked: bool
) -> None:
    app, one, _ = both
    await app.add("s1", 1, status="connected")
    await one.set(says={"/api/sessions/s1/status": [status, {}]})
    await app.do("check", "s1")
    assert ((await app.account("s1"))["status"] == "disconnected") is marked


async def test_a_send_is_tried_three_times_after_a_5xx_and_never_after_a_4xx(both: Both) -> None:
    app, one, _ = both
    await app.add("s1", 1, status="connected")
    for status, times in ((503, 3), (429, 1), (408, 1)):
        await one.test("forget_asked")
        await one.set(says={"/api/messages/send": [status, {}]})
        assert (await app.do("send", "s1", to="4915123456", message="m"))["status"] == status
        assert len((await one.state())["asked"]) == times


async def test_a_repeated_get_of_the_service_client_has_its_key_twice(both: Both) -> None:
    app, one, _ = both
    await app.add("s1", 1, status="connected")
    await one.set(says={"/api/sessions/s1/status": [503, {}]})
    await app.do("service_status", "s1")
    assert [asked["key"] for asked in (await one.state())["asked"]] == ["k", ["k", "k"], ["k", "k", "k"]]


async def test_session_ready_removes_the_other_rows_of_its_phone_even_connected_ones(both: Both) -> None:
    app, _, _ = both
    await connect(both, "old", "4911")
    await connect(both, "new", "4911")
    rows = await app.accounts()
    assert (rows["old"]["status"], rows["old"]["phone_number"]) == ("failed", None)
    assert rows["old"]["deleted_at"]
    assert rows["new"]["status"] == "connected"


async def test_the_unique_index_counts_rows_that_are_deleted(both: Both) -> None:
    app, one, _ = both
    await app.add("old", 1, status="connected", phone_number="4911", deleted_at=1.0)
    await app.add("new", 1, status="authenticated", phone_number="4911")
    await app.add("other", 1, status="connected", phone_number="4912")
    await one.emit("session_error", session_id="new", workspace_id=1, error="x", message="x")

    async def failed() -> bool:
        return any(hook["became"].startswith("failed: CHECK") for hook in await app.shown("webhooks"))

    await until(failed)


async def test_a_bad_signature_and_an_old_one_are_401_and_the_limiter_comes_after_them(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with laravel(free_port(), ["http://127.0.0.1:1"], tmp_path, "--limiter", "2") as app:
        for headers in ({}, {"X-HMAC-Signature": "0", "X-Timestamp": "1"}):
            answer = await app.ask("POST", "/api/whatsapp/webhooks/webjs", content=b"{}", headers=headers)
            assert (answer.status_code, list(answer.json())) == (401, ["message"])
        async with worker(free_port(), app.url, tmp_path, None, "--sender-scale", "0.1") as one:
            for _ in range(3):
                await one.emit("typing_indicator", session_id="s1", workspace_id=1)

            async def lost() -> bool:
                return bool((await one.state())["sender"]["lost"] == ["429"])

            await until(lost, timeout=30)
            assert (await one.state())["sender"]["attempts"] == {"200": 2, "429": 4}


async def test_metadata_can_be_overwritten_and_shows_the_qr_code(both: Both) -> None:
    app, one, _ = both
    await app.add("s1", 1)
    await app.do("create", "s1")
    await until(lambda: _scanning(one, "s1"))
    shown = (await one.ask("GET", "/api/sessions/s1/metadata", params=KEY)).json()["metadata"]
    assert shown["qrCode"].startswith("data:image/png;base64,")
    changed = await one.ask("PUT", "/api/sessions/s1/metadata", json={**KEY, "updates": {"status": "connected"}})
    assert changed.json()["metadata"]["status"] == "connected"
    unknown = await one.ask("PUT", "/api/sessions/x/metadata", json={**KEY, "updates": {}})
    assert json.loads(unknown.content)["metadata"] is None
