"""Sessions on existing workers that run and are not well: found and told once, restarted, and told when it is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx2
import pytest

from sessions.registry import Registry
from sluice.store.client import Store
from tests.contract.conftest import Build
from tests.contract.fleet import TOKEN, Fleet
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
SEND = "/api/messages/send"


async def told(made: Fleet, session: str) -> list[str]:
    """What Laravel got of its faults, in order."""
    events = [one for one in await made.app.shown("webhooks") if one["session_id"] == session]
    return [one["event"] for one in events if one["event"] in ("session_unhealthy", "session_recovered")]


async def reconnects(made: Fleet, number: int = 0) -> int:
    asked = (await made.workers[number].state())["asked"]
    return Counter(one["path"].rpartition("/")[2] for one in asked if one["method"] == "POST")["reconnect"]


async def restarts_in_the_audit_log(made: Fleet) -> list[dict[str, Any]]:
    answer = await made.http.get(
        "/_sluice/api/audit", params={"action": "restart_session"}, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert answer.status_code == 200, answer.text
    lines: list[dict[str, Any]] = answer.json()["lines"]
    return lines


async def send(made: Fleet, session: str) -> httpx2.Response:
    fields: dict[str, Any] = {
        "session_id": session,
        "recipient_phone": "491234567890",
        "message": "hello",
        "type": "text",
    }
    return await made.ask("POST", SEND, **fields)


async def arrived(made: Fleet, event: str, times: int) -> None:
    """So often at Laravel, at least."""

    async def so() -> bool:
        return [one["event"] for one in await made.app.shown("webhooks")].count(event) >= times

    await until(so, timeout=20, what=f"{event}, {times} times")


async def heard_of(made: Fleet, number: int, session: str) -> None:
    """By an event that came when the gateway knew the session already."""
    await made.workers[number].receive(session)
    await arrived(made, "message_received", 1)


async def until_told(made: Fleet, session: str, *events: str) -> None:
    got = list[str]()

    async def so() -> bool:
        got[:] = await told(made, session)
        return got == list(events)

    await until(so, timeout=60, what=lambda: f"{events} of {session}; it got {got}")


async def test_one_that_is_connected_and_silent_is_restarted_and_is_well_again(build: Build) -> None:
    async with build(watch={"silent": "2s", "restart": ["silent"], "restarts": "1/hour"}) as made:
        await made.restored()
        await made.begin(0, "s0", "490")
        await made.begin(1, "s1", "491")
        await made.connected("s0")
        await made.connected("s1")
        await heard_of(made, 0, "s0")
        dead = [200, {"success": True, "message_id": "true_1", "timestamp": 1}]
        await made.workers[0].set(says={SEND: dead})
        assert (await send(made, "s0")).status_code == 200
        assert (await send(made, "s1")).status_code == 200
        await until_told(made, "s0", "session_unhealthy", "session_recovered")
        assert await reconnects(made, 0) == 1
        assert await told(made, "s1") == [], "its message was an event"
        assert await reconnects(made, 1) == 0
        assert await made.workers[0].status("s0") == "connected"
        (line,) = await restarts_in_the_audit_log(made)
        assert (line["who"], line["through"]) == ("watch", "gateway")
        asked = line["request"]
        assert (asked["session"], asked["worker"], asked["outcome"]) == ("s0", "w0", "restarted")


async def test_while_an_existing_worker_restarts_a_session_nothing_else_opens_its_browser(build: Build) -> None:
    async with build() as made:
        await made.restored()
        await made.begin(0, "s0", "490")
        await made.connected("s0")
        lost = [200, {"success": True, "session_id": "s0", "status": "disconnected"}]
        await made.workers[0].set(says={"/api/sessions/s0/status": lost}, slow={"/api/sessions/s0/reconnect": 60.0})
        token = {"Authorization": f"Bearer {TOKEN}"}
        restart = asyncio.create_task(made.http.post("/_sluice/api/restarts/s0", json={}, headers=token))
        store = Store(made.policies.store.url, timeout=5.0)

        async def goes_on() -> bool:
            row = await Registry(store, 3.0).session("s0")
            return row is not None and row.signs.restarting_until is not None

        await until(goes_on, what="the restart to begin")
        await store.close()
        about = {"session_id": "s0", "workspace_id": 0, "account_id": 1}
        for path in ("/api/sessions/s0/reconnect", "/api/sessions/s0/regenerate-qr", "/api/sessions"):
            refused = await made.ask("POST", path, **about)  # a create waits for a while first
            assert (refused.status_code, refused.headers.get("Retry-After")) == (503, "5"), path
            assert refused.json()["detail"] == "session s0 is being restarted where it runs"
        asked = {(one["method"], one["path"]) for one in (await made.workers[0].state())["asked"]}
        assert not [path for method, path in asked if method == "POST" and path != "/api/sessions"], "by nobody"
        assert not restart.done()
        restart.cancel()


async def test_one_that_is_stuck_at_its_qr_code_is_restarted_as_often_as_it_may_be(build: Build) -> None:
    async with build(watch={"qr_scanning": "2s", "restart": ["qr_scanning"], "restarts": "1/hour"}) as made:
        await made.restored()
        await made.app.add("stuck", 0, status="qr_scanning")
        created = await made.ask("POST", "/api/sessions", session_id="stuck", workspace_id=0, account_id=2)
        assert created.status_code == 200, created.text

        async def once() -> bool:
            return sum([await reconnects(made, number) for number in range(2)]) == 1

        await until(once, timeout=60)
        await until_told(made, "stuck", "session_unhealthy")
        (message,) = [one for one in (await made.status())["messages"] if "stuck at qr_scanning" in one]
        assert message == "1 session is stuck at qr_scanning (stuck): Sluice restarts them (sessions.watch.restart)"

        async def shows_a_code() -> bool:
            return [await one.status("stuck") for one in made.workers].count("qr_scanning") == 1

        await until(shows_a_code)
        made.phones.scan("stuck", "4999")
        await until_told(made, "stuck", "session_unhealthy", "session_recovered")
        assert await once()


async def test_one_that_flaps_is_found_restarted_and_told_when_it_has_been_calm(build: Build) -> None:
    async with build(watch={"flapping": "3/10 seconds", "restart": ["flapping"], "restarts": "1/hour"}) as made:
        await made.restored()
        await made.begin(0, "s0", "490")
        await made.connected("s0")
        about = {"workspace_id": 0, "session_id": "s0"}
        for times in range(1, 4):
            for event, more in (("session_disconnected", {"reason": "x"}), ("session_ready", {"phone_number": "490"})):
                await made.workers[0].test("emit", event=event, data={**about, **more, "times": times})
                await arrived(made, event, times)
        await until_told(made, "s0", "session_unhealthy", "session_recovered")
        assert await reconnects(made) == 1
