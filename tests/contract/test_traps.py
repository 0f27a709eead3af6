"""The thirteen traps that the contract has for a gateway (its section 8), each through a real one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.contract.conftest import Build
from tests.contract.fleet import KEY, Fleet
from tests.contract.running import SECRET
from tests.ports import port_of
from tests.waiting import until

pytestmark = pytest.mark.anyio

WEBHOOKS = "/api/whatsapp/webhooks/webjs"


# --- 1: X-Instance-Url


async def test_1_after_session_ready_laravel_stays_on_the_gateway(two: Fleet) -> None:
    for number in range(2):
        assert (await two.app.account(f"s{number}"))["assigned_instance_url"] == two.url
        assert (await two.app.do("check", f"s{number}"))["status"] == 200
    assert {call["url"].partition("/api")[0] for call in await two.app.shown("calls")} <= {two.url, f"{two.url}/health"}


async def test_1_without_advertise_the_address_is_passed_on_as_it_is(build: Build) -> None:
    async with build(start=False, advertised=False) as made:
        await made.know(0, "s0", "490")
        await made.start_all()
        await until(lambda: _row(made, "s0", assigned_instance_url=f"http://localhost:{made.workers[0].port}"))


# --- 2: a base URL that loses its prefix, and one that keeps it


async def test_2_the_service_client_loses_a_prefix_and_still_finds_the_session(two: Fleet) -> None:
    await two.app.set(instances=[f"{two.url}/w/w0", f"{two.url}/w/w1"])
    assert (await two.app.do("send", "s1", to="4915123456", message="hello"))["status"] == 200
    assert [sent["message"] for sent in (await two.workers[1].state())["sent"]] == ["hello"]


async def test_2_a_worker_behind_a_prefix_has_its_webhooks_relayed_to_the_path_that_laravel_has(two: Fleet) -> None:
    await two.workers[1].receive("s1", identity="m1")
    await until(lambda: _saved(two, "m1"))


# --- 3: accounts/active


async def test_3_workers_that_start_together_divide_the_accounts_as_laravel_does(build: Build) -> None:
    async with build(start=False) as made:
        for number in range(8):
            await made.know(number % 2, f"s{number}", f"49{number}", workspace=number)
        await made.start_all()
        for number in range(8):
            await made.connected(f"s{number}")
        await made.restored()
        assert made.phones.ran_twice() == []
        for number, one in enumerate(made.workers):
            assert sorted((await one.state())["sessions"]) == [f"s{n}" for n in range(8) if n % 2 == number]
        assert not [hook for hook in await made.app.shown("webhooks") if hook["event"] == "qr_code_generated"]


# --- 4: /health


async def test_4_health_of_the_fleet_counts_the_sessions_of_all(two: Fleet) -> None:
    health = (await two.http.get("/health")).json()
    assert (health["status"], health["sessions"]["connected"], health["sessions"]["total"]) == ("healthy", 2, 2)
    await two.workers[0].kill()
    assert (await two.http.get("/health")).json()["sessions"]["connected"] >= 1


async def test_4_nobody_probes_what_always_says_503(two: Fleet) -> None:
    asked = [asked["path"] for one in two.workers for asked in (await one.state())["asked"]]
    assert "/health" in asked
    assert "/health/live" not in asked


# --- 5: session_ready first, and messages of a worker that is away


@pytest.mark.slow
async def test_5_session_ready_reaches_laravel_before_the_messages_of_its_session(two: Fleet) -> None:
    await two.app.set(down=True)
    for number in range(3):
        await two.workers[0].receive("s0", identity=f"m{number}")
    # The same bytes, signed in the same second, are one event (docs/how-it-works.md). A browser takes seconds for this.
    await asyncio.sleep(1.1 - time.time() % 1)
    await two.ask("POST", "/api/sessions/s0/reconnect", workspace_id=0, account_id=1)
    await until(lambda: _is_connected(two, 0, "s0"))
    await two.workers[0].receive("s0", identity="last")
    await two.app.set(down=False)
    await until(lambda: _saved(two, "last"), timeout=60)
    hooks = [hook for hook in await two.app.shown("webhooks") if hook["session_id"] == "s0" and hook["status"] == 200]
    last = max(n for n, hook in enumerate(hooks) if hook["event"] == "session_ready")
    assert last < next(n for n, hook in enumerate(hooks) if hook["message_id"] == "last")
    assert [hook["became"] for hook in hooks if hook["event"] == "message_received"] == ["handled"] * 4


@pytest.mark.slow
async def test_5_a_message_that_is_relayed_while_its_worker_is_away_is_not_lost(two: Fleet) -> None:
    await two.app.set(down=True)
    await two.workers[0].receive("s0", identity="m1")
    await until(lambda: _answered(two, 0))
    await two.workers[0].kill()
    await two.app.set(down=False)
    await until(lambda: _saved(two, "m1"), timeout=60)


# --- 6: X-Forwarded-For


async def test_6_laravel_counts_relayed_webhooks_for_the_gateway_whatever_a_sender_forges(two: Fleet) -> None:
    response = await _post_webhook(two, _event("forged"), {"X-Forwarded-For": "203.0.113.9"})
    assert response == 202
    await until(lambda: _saved(two, "forged", event="message_sent"))
    for hook in await two.app.shown("webhooks"):
        assert hook["headers"].get("x-forwarded-for", "127.0.0.1") == "127.0.0.1"


async def test_6_a_proxied_call_of_a_worker_on_this_machine_stays_a_loopback_one(two: Fleet) -> None:
    calls = [call for call in await two.app.shown("others") if call["path"].endswith("/accounts/active")]
    assert {call["headers"]["x-forwarded-for"] for call in calls} == {"127.0.0.1"}
    assert {call["headers"]["x-api-key"] for call in calls} == {KEY}


# --- 7: status and sends


async def test_7_a_limit_that_is_used_up_never_disconnects_a_row(build: Build) -> None:
    def crowded(policies: dict[str, Any]) -> None:
        policies["limits"] = [{"id": "address", "per": ["ip"], "rate": "1/hour", "burst": 1, "over": "reject"}]

    async with build(start=False, edit=crowded, advertised=True) as made:
        await made.app.add("s0", 0, status="connected", phone_number="490")
        await made.start_all()
        for _ in range(3):
            assert (await made.app.do("check", "s0"))["status"] not in (429, 503, 504)


@pytest.mark.slow
async def test_7_status_is_answered_while_the_store_is_away(two: Fleet) -> None:
    async with Redis.from_url(two.policies.store.url) as store:
        await store.execute_command("CLIENT", "PAUSE", "4000", "ALL")
        for number in range(2):
            assert (await two.app.do("check", f"s{number}"))["status"] == 200
    assert not [mark for mark in await two.app.shown("marks") if mark["after"] == "disconnected"]


@pytest.mark.slow
async def test_7_status_is_answered_from_what_was_last_known_until_a_restarted_worker_has_restored(two: Fleet) -> None:
    await two.workers[0].kill()
    assert (await two.app.do("check", "s0"))["status"] == 200, "it does not answer"
    await two.app.set(slow_active=1.0)
    await two.workers[0].start()
    for _ in range(5):
        said = await two.app.do("check", "s0")
        assert (said["status"], said["value"]["session_id"], said["value"]["status"]) == (200, "s0", "connected")
        await asyncio.sleep(0.2)
    await two.restored()
    await two.connected("s0")
    assert not [mark for mark in await two.app.shown("marks") if mark["after"] == "disconnected"]
    assert two.phones.ran_twice() == []


async def test_7_the_shipped_limit_of_sends_loses_none(two: Fleet) -> None:
    said = await asyncio.gather(
        *(two.app.do("send", "s0", to="4915123456", message=f"m{number}") for number in range(20))
    )
    assert [one["status"] for one in said] == [200] * 20
    assert sorted(sent["message"] for sent in (await two.workers[0].state())["sent"]) == sorted(
        f"m{number}" for number in range(20)
    )


@pytest.mark.slow
async def test_7_a_send_that_is_repeated_after_a_timeout_goes_out_once(build: Build) -> None:
    async with build(start=False, arguments=("--send-time", "2")) as made:
        await made.know(0, "s0", "490")
        await made.start_all()
        await made.connected("s0")
        await made.app.set(scale=0.03)  # 0.9 s instead of 30
        await made.app.do("send", "s0", to="4915123456", message="once")
        await asyncio.sleep(3)
        assert [sent["message"] for sent in (await made.workers[0].state())["sent"]] == ["once"]


# --- 8: the query twice


async def test_8_a_key_that_is_there_twice_is_refused_as_the_worker_does(two: Fleet) -> None:
    for path in ("/api/sessions/s0/status", "/api/sessions"):
        direct = await two.workers[0].ask("GET", f"{path}?api_key={KEY}&api_key={KEY}")
        answer = await two.http.get(f"{path}?api_key={KEY}&api_key={KEY}")
        assert (answer.status_code, answer.json()) == (direct.status_code, direct.json()) == (401, _INVALID)


async def test_8_no_answer_of_ours_makes_the_service_client_repeat_a_status(two: Fleet) -> None:
    await two.workers[0].kill()
    said = await two.app.do("service_status", "s0")
    assert said["status"] == 200
    assert len([call for call in await two.app.shown("calls") if call["method"] == "GET"]) == 1


# --- 9: bodies


async def test_9_a_delete_keeps_its_body(two: Fleet) -> None:
    said = await two.app.do("disconnect", "s0")
    assert (said["status"], said["value"]["success"]) == (200, True)
    assert await two.workers[0].status("s0") is None


async def test_9_bodies_up_to_50_mb_are_passed_on_and_waited_for(two: Fleet) -> None:
    fields = {"api_key": KEY, "session_id": "s0", "recipient_phone": "4915123456"}
    body = json.dumps({**fields, "media_url": "data:" + "x" * 45_000_000}).encode()
    headers = {"Content-Type": "application/json", "Expect": "100-continue"}
    answer = await two.http.post("/api/messages/send-media", content=body, headers=headers)
    assert (answer.status_code, answer.json().get("success")) == (200, True)


async def test_9_the_go_ahead_for_a_large_body_comes_before_it(two: Fleet) -> None:
    fields = {"api_key": KEY, "session_id": "s0", "recipient_phone": "4915123456", "message": "x" * 1_500_000}
    body = json.dumps(fields).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(two.policies))
    writer.write(
        b"POST /api/messages/send HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
    )
    async with asyncio.timeout(60):
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        assert b" 200 " in await reader.readuntil(b"\r\n")
    writer.close()


# --- 10: /api/messages/{x}/status


async def test_10_the_status_of_a_message_is_looked_for_where_its_session_is(two: Fleet) -> None:
    for number in range(2):
        answer = await two.ask("GET", f"/api/messages/s{number}/status", message_id="m1")
        assert (answer.status_code, answer.json().get("session_id")) == (200, f"s{number}")
    assert any(asked["path"] == "/api/messages/s1/status" for asked in (await two.workers[1].state())["asked"])


async def test_10_with_a_message_id_instead_it_is_the_workers_own_404(two: Fleet) -> None:
    answer = await two.ask("GET", "/api/messages/true_4915@c.us_3EB0/status", message_id="m1")
    assert (answer.status_code, answer.json()) == (404, {"error": "Session not found"})


# --- 11: bytes, and redirects


async def test_11_a_webhook_reaches_laravel_byte_for_byte(two: Fleet) -> None:
    body = b'{ "data": {"workspace_id":0, "session_id" :"s0",\n'
    body += b' "message":{"id":"\\u0062ytes","body":"\\ud83d\\ude00\xc3\xa9 "}},"event":"message_sent","n":1.0e2}'
    assert await _post_webhook(two, body) == 202
    await until(lambda: _saved(two, "bytes", event="message_sent"))
    assert body.decode() in {hook["body"] for hook in await two.app.shown("webhooks")}


async def test_11_what_only_case_and_a_final_slash_tell_apart_is_the_same_and_no_redirect(two: Fleet) -> None:
    for path in ("/API/Sessions/s0/Status", "/api/sessions/s0/status/"):
        answer = await two.ask("GET", path)
        assert (answer.status_code, answer.json()["session_id"]) == (200, "s0")
    created = await two.ask("POST", "/API/Sessions/", session_id="new", workspace_id=1)
    assert (created.status_code, created.json()["session_id"]) == (200, "new")


# --- 12: one connection for each webhook


@pytest.mark.slow
async def test_12_a_gateway_that_starts_again_loses_no_webhook(two: Fleet) -> None:
    emitting = asyncio.create_task(_emit(two, 60))
    await asyncio.sleep(0.5)
    await two.sluice.restart_gateway()
    await emitting

    async def missing() -> list[str]:
        saved = {row["message_id"] for row in await two.app.shown("messages")}
        return [f"e{number}" for number in range(60) if f"e{number}" not in saved]

    async def none_is() -> bool:
        return not await missing()

    await until(none_is, timeout=60, what="60 messages")
    assert (await two.workers[0].state())["sender"]["lost"] == []


# --- 13: callers that hang up, and foreign answers


async def test_13_a_create_whose_caller_has_hung_up_is_not_started_again(build: Build) -> None:
    async with build(start=False) as made:
        await made.app.add("s0", 0)
        for one in made.workers:
            await one.start()
        await made.restored()
        await made.ask("DELETE", "/api/sessions/s0", workspace_id=0)
        await made.workers[0].set(slow={"/api/sessions": 1.0})
        await made.app.set(scale=0.05)  # 0.5 s instead of 10
        said = await made.app.do("create", "s0")
        assert (said["status"], (await made.app.account("s0"))["status"]) == (0, "failed")
        await made.app.set(scale=1.0)
        await made.app.do("create", "s0")
        await until(lambda: made.phones.running("s0"))
        assert made.phones.ran_twice() == []


async def test_13_what_a_worker_refuses_comes_through_as_it_is(two: Fleet) -> None:
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/api/sessions/s0/status?api_key=wrong", {}),
        ("GET", f"/api/sessions/s0/unknown?api_key={KEY}", {}),
        ("POST", "/api/messages/send", {"json": {"api_key": KEY, "session_id": "s0"}}),
        ("POST", "/api/sessions/s0/restore", {"json": {"api_key": KEY}}),
        ("POST", "/api/sessions/s0/reconnect", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    ]
    for method, target, how in asked:
        direct = await two.workers[0].ask(method, target, **how)
        answer = await two.http.request(method, target, **how)
        told = (answer.status_code, answer.headers["content-type"], _timeless(answer.text))
        assert told == (direct.status_code, direct.headers["content-type"], _timeless(direct.text)), target


# ---

_INVALID = {"error": "Invalid API key"}


def _timeless(text: str) -> str:
    return text.partition('"timestamp"')[0]


def _event(identity: str, event: str = "message_sent") -> bytes:
    message = {"id": identity, "body": "x", "from": "1@c.us"}
    return json.dumps({"event": event, "data": {"workspace_id": 0, "session_id": "s0", "message": message}}).encode()


async def _post_webhook(made: Fleet, body: bytes, headers: dict[str, str] | None = None) -> int:
    stamp = str(int(time.time()))
    proof = hmac.new(SECRET.encode(), stamp.encode() + body, hashlib.sha256).hexdigest()
    signed = {"X-HMAC-Signature": proof, "X-Timestamp": stamp, "Content-Type": "application/json"}
    return (await made.http.post(WEBHOOKS, content=body, headers=signed | (headers or {}))).status_code


async def _emit(made: Fleet, count: int) -> None:
    for number in range(count):
        await made.workers[0].receive("s0", identity=f"e{number}")
        await asyncio.sleep(0.02)


async def _saved(made: Fleet, identity: str, *, event: str = "message_received") -> bool:
    return any(row["message_id"] == identity and row["event"] == event for row in await made.app.shown("messages"))


async def _row(made: Fleet, session: str, **fields: Any) -> bool:
    row = await made.app.account(session)
    return all(row[name] == value for name, value in fields.items())


async def _is_connected(made: Fleet, number: int, session: str) -> bool:
    return await made.workers[number].status(session) == "connected"


async def _answered(made: Fleet, number: int) -> bool:
    return bool((await made.workers[number].state())["sender"]["answered"] >= 3)
