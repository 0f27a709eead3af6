"""What was wrong with existing workers, row by row of the table of the issue of ownership, with workers as they are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.contract.conftest import Build
from tests.contract.fleet import KEY, TOKEN, Fleet
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio


# --- the key


async def test_a_worker_is_watched_with_the_key_where_it_looks_for_it(two: Fleet) -> None:
    listed = (await two.ask("GET", "/api/sessions")).json()
    assert {row["session_id"]: row["status"] for row in listed["sessions"]} == {"s0": "connected", "s1": "connected"}
    assert (await two.status())["messages"] == []


async def test_a_worker_without_a_key_is_watched_without_one(build: Build) -> None:
    async with build(keyed=False, start=False) as made:
        await made.know(0, "s0", "490")
        await made.start_all()
        await made.connected("s0")


async def test_a_worker_that_refuses_our_key_is_told_with_its_cure(two: Fleet) -> None:
    await two.workers[0].set(key="another")

    async def told() -> bool:
        messages = (await two.status())["messages"]
        return any("w0" in one and "sessions.workers" in one and "key" in one for one in messages)

    await until(told)


async def test_a_worker_that_never_answered_is_told(build: Build) -> None:
    async with build(start=False) as made:
        await made.workers[0].start()

        async def told() -> bool:
            return any("w1" in one for one in (await made.status())["messages"])

        await until(told)


async def test_no_log_line_has_the_key(two: Fleet, heard: Heard) -> None:
    await two.ask("GET", "/api/sessions/s0/status", workspace_id=0)
    await two.ask("GET", "/api/sessions")
    assert any("s0" in str(fields) for _, fields in heard.lines)
    assert KEY not in str(heard.lines)


# --- the list


@pytest.mark.parametrize("target", ["/api/sessions", "/API/sessions/", "/api/sessions?api_key=wrong"])
async def test_the_list_asks_for_the_workers_key_as_they_would(two: Fleet, target: str) -> None:
    answer = await two.http.get(target)
    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid API key"})


async def test_the_list_has_the_contracts_shape(two: Fleet) -> None:
    direct = (await two.workers[0].ask("GET", "/api/sessions", params={"api_key": KEY})).json()
    listed = (await two.ask("GET", "/api/sessions", workspace_id=0)).json()
    assert (listed["success"], listed["total"]) == (True, 1)
    assert listed["sessions"][0].keys() >= direct["sessions"][0].keys()
    for name in ("session_id", "workspace_id", "status", "phone_number"):
        assert str(listed["sessions"][0][name]) == str(direct["sessions"][0][name])


# --- a shorter list


@pytest.mark.slow
async def test_a_session_keeps_its_last_owner_while_that_restores(two: Fleet) -> None:
    await two.app.set(slow_active=3.0)
    await two.workers[0].kill()
    await two.workers[0].start()
    await asyncio.sleep(1.5)  # several lists without it
    said = await two.ask("POST", "/api/sessions", session_id="s0", workspace_id=0, account_id=1)
    assert said.status_code == 200
    assert [browser.worker for browser in two.phones.running("s0")] == ["w0"]
    assert await two.workers[1].status("s0") is None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/sessions"),
        ("POST", "/api/sessions/s1/reconnect"),
        ("POST", "/api/sessions/s1/regenerate-qr"),
        ("POST", "/api/sessions/s1/restore"),
        ("DELETE", "/api/sessions/s1"),
    ],
)
async def test_what_concerns_a_session_that_does_not_run_goes_to_its_last_owner(
    two: Fleet, method: str, path: str
) -> None:
    await two.workers[1].ask("DELETE", "/api/sessions/s1", json={"api_key": KEY})  # past the gateway
    await asyncio.sleep(1.5)
    for one in two.workers:
        await one.test("forget_asked")
    fields = {"session_id": "s1", "workspace_id": 1, "account_id": 2, "api_key": KEY}
    direct = 500 if path.endswith("restore") else 200
    assert (await two.http.request(method, path, json=fields)).status_code == direct
    asked = [[(one["method"], one["path"]) for one in (await worker.state())["asked"]] for worker in two.workers]
    assert (method, path) in asked[1]
    assert (method, path) not in asked[0]


async def test_in_a_dispute_the_connected_one_gets_the_requests_and_status_says_it(two: Fleet) -> None:
    body = {"session_id": "s1", "workspace_id": 1, "api_key": KEY}
    assert (await two.workers[0].ask("POST", "/api/sessions", json=body)).status_code == 200  # at its QR code
    await two.workers[1].ask("DELETE", "/api/sessions/s1", json={"api_key": KEY})
    assert (await two.workers[1].ask("POST", "/api/sessions", json=body)).status_code == 200  # logged in

    async def told() -> bool:
        return any("s1" in one and "w0" in one for one in (await two.status())["messages"])

    await until(told)

    async def answered_by_the_connected_one() -> bool:
        return bool((await two.ask("GET", "/api/sessions/s1/status")).json()["status"] == "connected")

    await until(answered_by_the_connected_one)
    for _ in range(5):
        assert (await two.ask("GET", "/api/sessions/s1/status")).json()["status"] == "connected"
        await asyncio.sleep(0.3)


# --- a create that is refused


@pytest.mark.parametrize(("status", "value"), [(401, {"error": "Invalid API key"}), (400, {}), (500, {"error": "x"})])
async def test_a_create_that_the_worker_refuses_leaves_nothing_behind(
    two: Fleet, status: int, value: dict[str, Any]
) -> None:
    for one in two.workers:
        await one.set(says={"/api/sessions": [status, value]})
    assert (await two.ask("POST", "/api/sessions", session_id="new", workspace_id=0)).status_code == status
    for one in two.workers:
        await one.set(says={})
    await asyncio.sleep(1.5)
    assert (await two.ask("GET", "/api/sessions/new/status")).status_code == 404
    assert "new" not in (await two.ask("GET", "/api/sessions")).text


async def test_strangers_without_the_key_take_no_place(two: Fleet) -> None:
    for number in range(60):
        answer = await two.http.post("/api/sessions", json={"session_id": f"stranger-{number}", "api_key": "guessed"})
        assert answer.status_code == 401
    assert (await two.ask("POST", "/api/sessions", session_id="new", workspace_id=0)).status_code == 200


# --- a delete is final


async def test_a_session_that_a_person_deletes_stays_deleted_when_its_worker_dies(two: Fleet) -> None:
    assert (await two.ask("DELETE", "/api/sessions/s0", workspace_id=0)).status_code == 200
    await two.workers[0].kill()
    await asyncio.sleep(1.0)
    assert "s0" not in {row["session_id"] for row in (await two.ask("GET", "/api/sessions")).json()["sessions"]}
    assert (await two.ask("GET", "/api/sessions/s0/status")).status_code == 404


@pytest.mark.parametrize("path", ["/api/sessions/s0", "/api/sessions/never-seen"])
async def test_a_second_delete_is_answered_as_direct(two: Fleet, path: str) -> None:
    await two.ask("DELETE", path, workspace_id=0)
    again = await two.ask("DELETE", path, workspace_id=0)
    assert (again.status_code, again.json()["alreadyDisconnected"]) == (200, True)


async def test_a_session_that_nobody_knows_is_404_as_the_worker_says_it(two: Fleet) -> None:
    answer = await two.ask("GET", "/api/sessions/never-seen/status")
    assert (answer.status_code, answer.json()) == (404, {"error": "Session not found"})


# --- two gateways


async def test_the_other_gateway_follows_a_move_between_workers_at_once(two: Fleet) -> None:
    async with two.another_gateway() as other:
        assert (await other.ask("GET", "/api/sessions/s0/status")).json()["status"] == "connected"
        await two.ask("DELETE", "/api/sessions/s0", workspace_id=0)
        body = {"session_id": "s0", "workspace_id": 0, "api_key": KEY}
        assert (await two.workers[1].ask("POST", "/api/sessions", json=body)).status_code == 200

        async def listed() -> bool:
            rows = (await two.ask("GET", "/api/sessions")).json()["sessions"]
            return any(row["session_id"] == "s0" for row in rows)

        await until(listed)
        await asyncio.sleep(0.1)
        for _ in range(20):
            assert (await other.ask("GET", "/api/sessions/s0/status")).status_code == 200
            await asyncio.sleep(0.05)


# --- slow and odd lists


@pytest.mark.slow
async def test_a_poll_that_takes_two_seconds_loses_nothing(two: Fleet) -> None:
    await two.workers[0].set(slow={"/api/sessions": 2.0})
    await asyncio.sleep(7.0)
    assert (await two.ask("GET", "/api/sessions/s0/status")).json()["status"] == "connected"
    fields = {"session_id": "s0", "recipient_phone": "4915123456", "message": "m"}
    assert (await two.ask("POST", "/api/messages/send", **fields)).json()["success"] is True


@pytest.mark.slow
async def test_one_odd_item_of_a_list_is_one_warning(two: Fleet) -> None:
    await two.workers[0].set(odd=[{"status": "connected"}, 7])
    await asyncio.sleep(5.0)
    assert (await two.ask("GET", "/api/sessions/s0/status")).json()["status"] == "connected"

    async def told() -> bool:
        return any("w0" in one for one in (await two.status())["messages"])

    await until(told)


# --- while it restores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "fields", "sent"),
    [
        ("/api/messages/send", {"recipient_phone": "4915123456"}, 1),
        ("/api/messages/bulk-send", {"recipients": ["4915123456", "4915123457"]}, 2),
    ],
)
async def test_a_send_waits_until_its_worker_has_restored_the_session(
    build: Build, path: str, fields: dict[str, Any], sent: int
) -> None:
    async with _slow(build) as made:
        await made.workers[0].kill()
        await made.workers[0].start()
        answer = await made.ask("POST", path, session_id="s0", message="hello", **fields)
        assert (answer.status_code, answer.json()["success"]) == (200, True)
        assert len((await made.workers[0].state())["sent"]) == sent


@pytest.mark.slow
async def test_a_question_waits_until_its_worker_has_begun_with_the_session(build: Build) -> None:
    async with _slow(build) as made:
        await made.app.set(slow_active=2.0)
        await made.workers[0].kill()
        await made.workers[0].start()
        answer = await made.ask("GET", "/api/messages/s0/validate")
        assert (answer.status_code, answer.json()["session_id"]) == (200, "s0")


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/api/sessions/s0/status", "/cleanup/stats"])
async def test_no_question_is_told_404_when_the_session_is_begun_while_its_worker_is_asked_whether_it_restores(
    build: Build, path: str
) -> None:
    async with _slow(build, scale=0.02) as made:
        await made.app.set(slow_active=1.5)
        await made.workers[0].kill()
        await made.workers[0].start()
        await made.workers[0].set(slow={path: 0.7})

        async def asked(after: float) -> int:
            await asyncio.sleep(after)
            return (await made.ask("GET", "/api/messages/s0/validate")).status_code

        assert await asyncio.gather(*(asked(tenths / 10) for tenths in range(20))) == [200] * 20


@pytest.mark.slow
async def test_a_send_that_waits_too_long_for_its_session_is_refused_in_a_way_that_laravel_repeats(
    build: Build,
) -> None:
    async with _slow(build) as made:
        await made.app.set(slow_active=14.0)
        await made.workers[0].kill()
        await made.workers[0].start()
        fields = {"session_id": "s0", "recipient_phone": "4915123456", "message": "hello"}
        answer = await made.ask("POST", "/api/messages/send", **fields)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        why = "the worker of session s0 was started again, and has not restored it yet"
        assert answer.json()["detail"] == why


@pytest.mark.slow
async def test_status_stays_connected_while_a_worker_that_was_away_for_long_restores_the_login(build: Build) -> None:
    async with _slow(build) as made:
        one = made.workers[0]
        await one.kill()
        await asyncio.sleep(5.0)  # longer than its lease
        await made.app.set(slow_active=3.0)
        await one.start()
        await asyncio.sleep(2.0)  # it is seen before it has begun with the session
        await one.set(slow={"/api/sessions": 1.5})
        said: list[str] = []

        async def restored() -> bool:
            said.append((await made.ask("GET", "/api/sessions/s0/status")).json()["status"])
            return await one.status("s0") == "connected"

        await until(restored)
        assert len(said) > 5
        assert set(said) == {"connected"}


@pytest.mark.slow
@pytest.mark.parametrize("lists", [True, False])
async def test_a_question_for_a_session_that_its_worker_has_closed_to_end_waits_until_it_is_back(
    build: Build, lists: bool
) -> None:
    """`lists`: whether its worker was seen to list it last."""
    async with _slow(build, scale=0.02) as made:
        path, gone = "/api/messages/s0/validate", (404, {"error": "Session not found"})
        closed = {path: gone, "/api/sessions/s0/status": gone}
        await until(lambda: _is_listed(made, "s0"))
        if not lists:
            closed["/api/sessions"] = (200, {"success": True, "sessions": []})
            await made.workers[0].set(says=closed)
            await until(lambda: _is_missing(made))
        await made.workers[0].set(says=closed)
        asking = asyncio.create_task(made.ask("GET", path))
        await asyncio.sleep(0.3)
        assert not asking.done()
        await made.workers[0].kill()
        await made.workers[0].start()
        answer = await asking
        assert (answer.status_code, answer.json()["session_id"]) == (200, "s0")


async def test_a_send_for_a_session_that_its_worker_does_not_run_is_answered_soon_as_direct(two: Fleet) -> None:
    await two.workers[1].ask("DELETE", "/api/sessions/s1", json={"api_key": KEY})  # past the gateway
    began = time.monotonic()
    fields = {"session_id": "s1", "recipient_phone": "4915123456", "message": "hello"}
    answer = await two.ask("POST", "/api/messages/send", **fields)
    assert (answer.status_code, answer.json()) == (404, {"error": "Session not found"})
    fields |= {"session_id": "s0", "recipient_phone": "no number"}
    answer = await two.ask("POST", "/api/messages/send", **fields)
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid phone number"})
    assert time.monotonic() - began < 15.0


@pytest.mark.slow
async def test_only_the_first_waits_to_see_whether_the_worker_of_a_session_that_was_deleted_past_us_ends(
    build: Build,
) -> None:
    async with _slow(build, scale=0.02, lease="30s") as made:  # so that it is not listed anew meanwhile
        path, about = "/api/messages/s0/validate", {"session_id": "s0", "workspace_id": 0, "account_id": 1}
        await until(lambda: _is_listed(made, "s0"))
        await made.workers[0].ask("DELETE", "/api/sessions/s0", json={"api_key": KEY})
        first, late = asyncio.create_task(made.ask("GET", path)), []
        await asyncio.sleep(1.0)
        assert not first.done()
        for _ in range(4):
            began = time.monotonic()
            assert (await made.ask("GET", path)).status_code == 404
            late.append(time.monotonic() - began)
        assert (await first).json() == {"error": "Session not found"}
        assert min(late[1:]) < 4.0, late

        assert (await made.ask("POST", "/api/sessions", **about)).status_code == 200
        await until(lambda: _is_listed(made, "s0"))
        gone = (404, {"error": "Session not found"})
        await made.workers[0].set(says={path: gone, "/api/sessions/s0/status": gone})
        asking = asyncio.create_task(made.ask("GET", path))
        await asyncio.sleep(1.0)
        assert not asking.done(), "it may be closed to end"
        asking.cancel()


async def test_without_the_shield_the_workers_own_answer_is_given(build: Build) -> None:
    async with _slow(build, shields={"restored": False}) as made:
        await made.app.set(slow_active=3.0)
        await made.workers[0].kill()
        await made.workers[0].start()
        fields = {"session_id": "s0", "recipient_phone": "4915123456", "message": "hello"}
        assert (await made.ask("POST", "/api/messages/send", **fields)).status_code == 404


@asynccontextmanager
async def _slow(build: Build, *, scale: float = 0.2, **more: Any) -> AsyncIterator[Fleet]:
    """One worker whose sessions take some three seconds to be restored; `scale`: of the fifteen that they take."""
    async with build(workers=1, start=False, arguments=("--scale", f"{scale}"), **more) as made:
        await made.know(0, "s0", "490")
        await made.start_all()
        await made.connected("s0")
        yield made


async def _is_listed(made: Fleet, session: str) -> bool:
    """The watch over existing workers has seen it."""
    answer = await made.http.get("/_sluice/api/sessions", headers={"Authorization": f"Bearer {TOKEN}"})
    return any(row["session"] == session and row["worker"] is not None for row in answer.json()["sessions"])


async def _is_missing(made: Fleet) -> bool:
    return any(row["missing"] for row in (await made.status())["existing"])
