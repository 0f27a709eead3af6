"""Sends to a worker as it is: what is repeated is sent once, and what is meant twice is sent twice."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from gateway.workers import outcomes, send_records, sends
from gateway.workers.attempts import Attempt, Attempts
from sluice.http.bodies import BodyBudget
from sluice.http.server import RecordedExchange
from sluice.http.server.head import read_head
from sluice.store.client import Store
from tests.contract.running import laravel
from tests.gateway.running import Gate, problem
from tests.gateway.workers.sending import BULK, SEND, Place, a_send, at_work, connected, hang_up, knows
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent.parent.parent

Start = Callable[..., Awaitable[Gate]]


@pytest.fixture
async def place(tmp_path: Path, store_url: str, free_port: Callable[[], int]) -> AsyncIterator[Place]:
    async with at_work(store_url, tmp_path, free_port(), "--send-time", "0.8") as made:
        yield made


# --- a repeat


async def test_a_repeat_while_the_first_runs_joins_it(place: Place) -> None:
    gate = await place.gateway()
    await hang_up(gate, a_send())
    answer = await gate.http.post(SEND, json=a_send())
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert await place.sent() == 1
    assert answer.json()["message_id"] == (await place.worker.state())["sent"][0]["message_id"]


async def test_a_repeat_after_it_has_ended_gets_its_outcome_byte_for_byte(place: Place) -> None:
    gate = await place.gateway()
    await hang_up(gate, a_send())
    await until(lambda: place.sent())
    await asyncio.sleep(0.2)
    answer = await gate.http.post(SEND, json=a_send())
    direct = await place.worker.ask("POST", SEND, json=a_send("other"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == direct.headers["content-type"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert await place.sent() == 1


async def test_a_repeat_of_a_repeat_joins_as_well_and_who_has_the_outcome_sends_again(place: Place) -> None:
    gate = await place.gateway()
    await hang_up(gate, a_send(), after=0.2)
    await hang_up(gate, a_send(), after=0.2)
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200
    assert await place.sent() == 1
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200
    assert await place.sent() == 2


async def test_two_equal_sends_by_intent_are_two(place: Place) -> None:
    gate = await place.gateway()
    answers = await asyncio.gather(*(gate.http.post(SEND, json=a_send()) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["message_id"] != answers[1].json()["message_id"]
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200
    assert await place.sent() == 3


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (a_send(to="4915100000000"), SEND),
        (a_send(session="s2"), SEND),
        ({**a_send(), "type": "text"}, SEND),
        ({"session_id": "s1", "recipients": ["4915112345678"], "message": "hello"}, BULK),
    ],
)
async def test_another_body_session_or_path_is_another_send(place: Place, body: dict[str, Any], path: str) -> None:
    gate = await place.gateway()
    await hang_up(gate, a_send())
    assert (await gate.http.post(path, json=body)).status_code == 200
    await until(lambda: sent_twice(place))


async def sent_twice(place: Place) -> bool:
    return await place.sent() == 2


async def test_after_two_minutes_the_same_send_is_another(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send_records, "KEPT_FOR", 0.5)
    monkeypatch.setattr(sends, "KEPT_FOR", 0.5)
    gate = await place.gateway()
    await hang_up(gate, a_send())
    await until(lambda: place.sent())
    await asyncio.sleep(0.9)
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200
    assert await place.sent() == 2


async def test_what_the_worker_refused_is_told_to_the_repeat(place: Place) -> None:
    gate = await place.gateway()
    await place.worker.set(slow={SEND: 0.6}, says={SEND: [500, {"error": "Evaluation failed"}]})
    await hang_up(gate, a_send())
    answer = await gate.http.post(SEND, json=a_send())
    assert (answer.status_code, answer.json()) == (500, {"error": "Evaluation failed"})
    await place.worker.set(slow={}, says={})
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200, "it was answered, so this one is meant"
    assert await place.sent() == 1


async def test_the_log_says_whose_a_502_of_a_send_is(place: Place, heard: Heard) -> None:
    gate = await place.gateway()
    await place.worker.set(says={SEND: [502, {"error": "no"}]})
    assert (await gate.http.post(SEND, json=a_send())).status_code == 502
    why = [fields.get("why") for message, fields in heard.lines if message == "request"]
    assert why[-1] == "worker w1 answered 502"


async def test_a_send_whose_worker_dies_is_not_repeated_while_nobody_knows_what_became_of_it(place: Place) -> None:
    gate = await place.gateway()
    sending = asyncio.create_task(gate.http.post(SEND, json=a_send()))
    await asyncio.sleep(0.3)
    await place.worker.kill()
    assert problem(await sending) == (502, "worker w1 broke off before it answered")
    await place.worker.start()
    assert problem(await gate.http.post(SEND, json=a_send())) == (502, "worker w1 broke off before it answered")
    assert await place.sent() == 0


async def test_what_was_never_sent_is_sent_by_the_repeat(place: Place) -> None:
    gate = await place.gateway()
    await place.worker.kill()
    with suppress(httpx2.TimeoutException):
        answer = await gate.http.post(SEND, json=a_send(), timeout=8.0)
        assert answer.status_code == 503
    await place.worker.start()
    for session in ("s1", "s2"):
        fields = {"session_id": session, "workspace_id": 1, "account_id": "a"}
        await place.worker.ask("POST", "/api/sessions", json=fields)
    await until(lambda: connected(place.worker))
    await until(lambda: knows(gate))
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200
    assert await place.sent() == 1


async def test_a_repeat_takes_no_tokens(place: Place) -> None:
    limit = "{{id: send, event: message_send, per: [session], rate: 1/hour, burst: 1, over: reject}}"
    gate = await place.gateway(limits=limit)
    await hang_up(gate, a_send())
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200
    assert (await gate.http.post(SEND, json=a_send("other"))).status_code == 429


async def test_without_the_shield_a_caller_that_hangs_up_sends_twice(place: Place) -> None:
    gate = await place.gateway(sessions=", shields: {{repeats: false}}")
    await hang_up(gate, a_send())
    assert (await gate.http.post(SEND, json=a_send())).status_code == 200
    assert await place.sent() == 2


async def test_more_attempts_than_fit_are_passed_on_unshielded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.workers.attempts.MOST", 1)
    gate = await place.gateway()
    answers = await asyncio.gather(*(gate.http.post(SEND, json=a_send(str(number))) for number in range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3


async def test_nothing_is_left_of_sends_whose_callers_have_their_answers(place: Place) -> None:
    gate = await place.gateway()
    for _ in range(3):
        await gate.http.post(SEND, json=a_send())
    await until(lambda: no_records(place))


async def no_records(place: Place) -> bool:
    store = Store(place.store, timeout=5.0)
    (keys,) = await store.commands(("KEYS", "sl:{send:*"))
    await store.close()
    return not keys


async def test_an_answer_that_its_caller_has_not_read_did_not_reach_it(place: Place) -> None:
    one, other = await place.gateway(), await place.gateway()
    body = orjson.dumps(a_send())
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(head % (SEND.encode(), len(body)) + body)
    await until(lambda: place.sent())
    await asyncio.sleep(0.5)
    writer.close()
    await asyncio.sleep(0.2)
    answer = await other.http.post(SEND, json=a_send())
    assert answer.json()["message_id"] == (await place.worker.state())["sent"][0]["message_id"]
    assert await place.sent() == 1


# --- several gateways


async def test_a_repeat_that_reaches_another_gateway_joins_too(place: Place, heard: Heard) -> None:
    one, other = await place.gateway(), await place.gateway()
    await hang_up(one, a_send())
    answer = await other.http.post(SEND, json=a_send())
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert await place.sent() == 1
    await until(lambda: no_records(place))


async def test_another_gateway_gives_an_outcome_that_is_kept(place: Place) -> None:
    one, other = await place.gateway(), await place.gateway()
    await hang_up(one, a_send())
    await until(lambda: place.sent())
    await asyncio.sleep(0.3)
    answer = await other.http.post(SEND, json=a_send())
    assert answer.json()["message_id"] == (await place.worker.state())["sent"][0]["message_id"]
    assert await place.sent() == 1


@pytest.mark.slow
async def test_two_equal_sends_by_intent_are_two_through_two_gateways(place: Place) -> None:
    await place.worker.set(slow={SEND: 3.0})
    one, other = await place.gateway(), await place.gateway()
    answers = await asyncio.gather(one.http.post(SEND, json=a_send()), other.http.post(SEND, json=a_send()))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert await place.sent() == 2


@pytest.mark.slow
async def test_a_gateway_that_was_killed_leaves_a_send_that_is_not_sent_again(
    place: Place, free_port: Callable[[], int]
) -> None:
    port = free_port()
    await place.worker.set(slow={SEND: 1.0})
    other = await place.gateway()
    file = place.folder / "killed" / "policies.yaml"
    file.parent.mkdir()
    file.write_text(place.text(port).format(store=place.store))
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sluice", "gateway", "--policies", str(file)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            await until(lambda: answers(http), timeout=30)
            sending = asyncio.create_task(http.post(SEND, json=a_send(), timeout=30))
            await until(lambda: records(place))
            await asyncio.sleep(0.3)
            killed.kill()
            await killed.wait()
            with pytest.raises(httpx2.HTTPError):
                await sending
        answer = await other.http.post(SEND, json=a_send(), timeout=30)
        assert problem(answer) == (504, send_records.UNKNOWN.detail)
        assert problem(await other.http.post(SEND, json=a_send(), timeout=30)) == (504, send_records.UNKNOWN.detail)
        assert await place.sent() == 1
    finally:
        if killed.returncode is None:
            killed.kill()
            await killed.wait()


async def answers(http: httpx2.AsyncClient) -> bool:
    try:
        return bool((await http.get("/api/sessions/s1/status")).status_code == 200)
    except httpx2.HTTPError:
        return False


async def records(place: Place) -> bool:
    return not await no_records(place)


async def test_a_gateway_that_stops_waits_for_what_it_sends(place: Place, heard: Heard) -> None:
    gate = await place.gateway()
    await hang_up(gate, a_send())
    began = time.monotonic()
    await place.stops[0]()
    assert await place.sent() == 1
    assert time.monotonic() - began < 20
    assert "send.left" not in heard.messages()
    other = await place.gateway()
    assert (await other.http.post(SEND, json=a_send())).status_code == 200
    assert await place.sent() == 1


@pytest.mark.slow
async def test_three_tries_of_laravel_are_one_message(place: Place, free_port: Callable[[], int]) -> None:
    """It waits 0.45 s here instead of 30, and a message takes 0.8 s."""
    gate = await place.gateway()
    async with laravel(free_port(), [gate.url], place.folder, "--calls-scale", "0.015") as app:
        await app.add("s1", 1, status="connected")
        said = await app.do("send", "s1", to="4915112345678", message="hello")
        assert (said["status"], said["value"]["success"]) == (200, True)
        await place.worker.set(slow={SEND: 5.0})
        said = await app.do("send", "s1", to="4915112345678", message="slow")
        assert said["status"] == 0, "it gives up after three tries"
    await until(lambda: place.sent("slow"))
    await asyncio.sleep(1.0)
    assert (await place.sent("hello"), await place.sent("slow")) == (1, 1)


def status_within(seconds: float, port: int, sent: dict[str, Any]) -> int | None:
    """Of the answer; None: it has not come, and is not waited for any longer."""
    body, until_when = orjson.dumps(sent), time.monotonic() + seconds
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" % SEND.encode()
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        wire.settimeout(max(0.001, until_when - time.monotonic()))
        try:
            return int(wire.recv(65536)[9:12])
        except TimeoutError:
            return None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_whenever_callers_hang_up_no_message_goes_out_twice(place: Place, seed: int) -> None:
    """Forty messages, each tried three times through either gateway, with callers that give up at any moment. They read
    when they want to, as PHP does: what asyncio has read when its caller gives up is taken, as far as anybody can tell.
    """
    chance = random.Random(seed)
    gates = [await place.gateway(), await place.gateway()]

    def laravel_sends(message: str, tries: list[tuple[Gate, float]]) -> bool:
        for gate, patience in tries:
            status = status_within(patience, gate.port, a_send(message))
            assert status in (200, None)
            if status:
                return True
        return False

    tries = {
        f"message {number}": [(chance.choice(gates), chance.uniform(0.02, 1.2)) for _ in range(3)]
        for number in range(40)
    }
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(tries)) as callers:
        told = await asyncio.gather(
            *(loop.run_in_executor(callers, laravel_sends, message, how) for message, how in tries.items())
        )
    await asyncio.sleep(1.5)
    for message, was_told in zip(tries, told, strict=True):
        assert await place.sent(message) in ([1] if was_told else [0, 1]), message


async def test_an_answer_that_is_too_long_is_not_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "MAX_ANSWER", 100)
    gate = await place.gateway()
    await place.worker.set(says={SEND: [200, {"success": True, "more": "x" * 200}]})
    broken = "the worker broke off its answer, or answered more than is kept"
    assert problem(await gate.http.post(SEND, json=a_send())) == (502, broken)
    assert problem(await gate.http.post(SEND, json=a_send())) == (502, broken)


async def test_an_attempt_of_its_own_that_a_gateway_no_longer_knows_is_not_waited_for(store: Store) -> None:
    kept = send_records.SendRecords(store, "gateway")
    assert await kept.begin("0a", "1") is None
    kept.note("0a", "1", "left")
    await kept.noted()
    found = await kept.begin("0a", "2")
    assert found is not None
    assert (found.attempt, found.runner, found.outcome) == ("1", "gateway", b"")
    assert await kept.outcome("0a", found) is None


HEAD = read_head(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")


class HungUp:
    """Its client has gone; only the kernel knows of it yet."""

    head, disconnected = HEAD, False

    def has_hung_up(self) -> bool:
        return True


def an_attempt(*callers: Any) -> Attempt:
    attempt = Attempt("0a", "send", "s1", 0)
    attempt.callers += callers
    return attempt


def test_that_a_caller_has_hung_up_is_known_before_this_process_hears_of_it() -> None:
    attempts, stays = Attempts(BodyBudget(2**20)), RecordedExchange(HEAD, 0)
    attempts.add(an_attempt(HungUp(), stays))
    assert attempts.left("0a") is None
    attempts.add(left := an_attempt(HungUp()))
    assert attempts.left("0a") is left


async def test_a_gateway_notes_who_has_hung_up_before_it_says_that_it_is_there(store: Store) -> None:
    records, other = send_records.SendRecords(store, "gateway"), send_records.SendRecords(store, "other")
    shield = sends.Sends(None, records, BodyBudget(2**20), None)  # type: ignore[arg-type]
    attempt = an_attempt(HungUp())
    shield._attempts.add(attempt)
    assert await records.begin("0a", attempt.id) is None
    await shield.note_left()
    found = await other.begin("0a", "2")
    assert found is not None
    assert found.attempt == attempt.id


async def test_what_a_gateway_says_counts_once_it_has_begun_to_say_it_after_the_first_look(store: Store) -> None:
    async def says(moment: int) -> None:
        await store.commands(("ZADD", "sl:{gateways}", moment, "other"))

    presence, found = send_records.Presence(store, "other"), []
    for moment in (1, 1, 2, 2, 3):
        await says(moment)
        found.append(await presence.look())
    assert found == [None, None, None, None, True], "the 2 may have been on its way before"


@pytest.mark.slow
async def test_a_gateway_that_says_nothing_for_seconds_is_gone(store: Store) -> None:
    gone, other = send_records.SendRecords(store, "gone"), send_records.SendRecords(store, "other")
    assert await gone.begin("0a", "1") is None
    found = await other.begin("0a", "2")
    assert found is not None
    assert found.attempt == "1"
    assert await other.outcome("0a", found) is None


async def test_while_the_store_is_away_sends_go_on(heard: Heard) -> None:
    away = Store("redis://127.0.0.1:1", timeout=0.2)
    assert await send_records.SendRecords(away, "gateway").begin("0a", "1") is None
    assert heard.messages() == ["send.not_noted"]
    await away.close()
