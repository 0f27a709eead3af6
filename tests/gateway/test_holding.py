"""A limit with `over: hold` on a whole gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.explain import HypotheticalRequest, explain, outcome
from sluice.cli.replay import Replay
from tests.gateway.running import Gate, Receiver, problem, read_policies, receiver, start
from tests.heard import Heard
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server]

POLICIES = """
version: 1
store: {{url: "{store}", promise: memory, timeout: 5s}}
upstreams:
  laravel: {{url: "{laravel}", connect: 1s, headers: {headers}, idle: 10s}}
routes:
  - {{path: "/send/{{session}}", event: message_send, upstream: laravel}}
  - {{path: /read, session: {{json: /session}}, event: message_send, upstream: laravel}}
  - {{path: /**, upstream: laravel}}
limits:
  - {{id: send, event: message_send, per: [session], rate: RATE, burst: 1, over: hold, hold: HOLD}}
"""
Make = Callable[..., Awaitable[Gate]]


def policies(rate: str = "5/second", hold: str = "25s") -> str:
    return POLICIES.replace("RATE", rate).replace("HOLD", hold)


@pytest.fixture
async def laravel() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture
async def gate(server: str, tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def made(rate: str = "5/second", hold: str = "25s") -> Gate:
            gate, task = start(tmp_path, store_url, laravel.url, text=policies(rate, hold))

            async def stop() -> None:
                gate.stop.request()
                await task
                await gate.http.aclose()

            stack.push_async_callback(stop)
            return gate

        yield made


async def test_a_send_waits_for_its_tokens_and_goes_on(gate: Make, laravel: Receiver) -> None:
    held = await gate()
    began = time.monotonic()
    for answer in [await held.http.post("/send/s1", content=b"hello") for _ in range(3)]:
        assert answer.status_code == 200
        assert answer.headers["ratelimit"].startswith('"send";r=0')
    assert time.monotonic() - began > 0.35
    assert laravel.bodies == [b"hello"] * 3


async def test_what_waits_in_vain_gets_503_and_when_to_come_again(gate: Make, heard: Heard) -> None:
    held = await gate("1/100 seconds", "300ms")
    await held.http.post("/read", json={"session": "s1"})
    began = time.monotonic()
    answer = await held.http.post("/read", json={"session": "s1"})
    assert problem(answer) == (503, "limit send is used up, and has been for as long as its requests can wait")
    assert time.monotonic() - began > 0.25
    assert answer.json()["limit"] == "send"
    assert 90 <= int(answer.headers["retry-after"]) <= 100
    assert (await held.http.post("/read", json={"session": "s2"})).status_code == 200


async def test_a_caller_that_hangs_up_while_it_waits_is_never_sent(gate: Make, laravel: Receiver, heard: Heard) -> None:
    held = await gate("2/second")
    await held.http.post("/send/s1")
    async with held.raw(b"POST /send/s1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"):
        await asyncio.sleep(0.1)
    await until(lambda: any(fields.get("status") == 499 for _, fields in heard.lines))
    await asyncio.sleep(0.6)
    assert len(laravel.heads) == 1


@pytest.mark.our_server(reason="no other server tells its application that it stops before its requests have ended")
async def test_a_gateway_that_stops_refuses_who_waits(gate: Make) -> None:
    held = await gate("1/100 seconds")
    await held.http.post("/send/s1")
    waiting = asyncio.create_task(held.http.post("/send/s1"))
    await asyncio.sleep(0.2)
    held.stop.request()
    answer = await waiting
    assert problem(answer) == (503, "the gateway stops; send it again")
    assert answer.headers["retry-after"] == "1"


def test_explain_says_for_how_long_it_would_be_held(tmp_path: Path) -> None:
    read = read_policies(tmp_path, "redis://127.0.0.1:1", "http://127.0.0.1:1", text=policies("1/10 seconds"))
    found = explain(read, HypotheticalRequest("POST", "/send/s1", "127.0.0.1"), time.time())
    assert outcome(found, [1.0]) == "passed on to upstream laravel"
    assert outcome(found, [0.5]) == "held for 5.0s, if nobody waits already, then passed on to upstream laravel"
    used_up = "503: limit send is used up, and has been for as long as its requests can wait; Retry-After 30"
    assert outcome(found, [-2.0]) == used_up


def test_replay_lets_pass_later_what_would_have_been_held(tmp_path: Path) -> None:
    read = read_policies(tmp_path, "redis://127.0.0.1:1", "http://127.0.0.1:1", text=policies("1/10 seconds"))
    replay, line = Replay(read), b'{"msg": "request", "at": "2026-11-29T12:00:%02d+00:00", "method": "POST", '
    line += b'"path": "/send/s1", "client": "192.0.2.1", "event": "message_send", "session": "s1", "status": 200}'
    replay.feed([line % second for second in (0, 0, 0, 0, 20)])
    counts = replay.limits["send"]
    assert (counts.passed, counts.held, counts.refused) == (1, 3, 1)
    assert counts.max_hold == pytest.approx(20.0)
    assert replay.refused_now == 1
