"""WebSockets that are refused, here or by the upstream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from gateway.proxy.circuit import MINIMUM
from tests.gateway import running as making
from tests.gateway.proxy.websocket.reverb import ASKED, Logged, Reverb, denied, gate_to, hold, to
from tests.gateway.running import DENIED, PROXY, Gate, gateway, values
from tests.heard import Heard
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server(without="hypercorn")]


@pytest.mark.parametrize(
    ("head", "status", "why"),
    [
        (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400, b"a request has exactly one Host header"),
        (b"GET /x HTTP/1.1\r\n", 400, b"a request has exactly one Host header"),
        (b"GET /limited#x HTTP/1.1\r\nHost: a\r\n", 400, b"a target has no fragment"),
        (b"GET /a/../../x HTTP/1.1\r\nHost: a\r\n", 400, b"the path leads out of the root"),
        (b"GET /nowhere/x HTTP/1.1\r\nHost: a\r\n", 200, b""),
        (b"GET /hooks/x HTTP/1.1\r\nHost: a\r\n", 200, b""),
        (b"GET /api/sessions HTTP/1.1\r\nHost: a\r\n", 501, b"passed on to upstreams and to owners of sessions"),
    ],
)
async def test_what_a_request_would_not_pass_a_handshake_does_not_pass(
    gate: Gate, reverb: Reverb, head: bytes, status: int, why: bytes
) -> None:
    if status == 200:  # routes of other methods: the next route that takes a GET takes it
        async with gate.raw(head, ASKED, b"\r\n") as client:
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        return
    answer, body = await denied(gate, head, ASKED, b"\r\n")
    assert answer.startswith(b"HTTP/1.1 %d " % status), (answer, body)
    assert values(answer, b"content-type") == [b"application/problem+json"], (answer, body)
    assert why in body
    assert reverb.connections == []


async def test_a_denied_address_is_403(gate: Gate, reverb: Reverb) -> None:
    answer, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n", address=DENIED)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"this address is denied (trust.deny)" in body
    behind = b"GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 127.0.0.2\r\n"
    answer, _ = await denied(gate, behind, ASKED, b"\r\n", address=PROXY)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert reverb.connections == []


@pytest.mark.parametrize("path", [b"/limited/x", b"/limited/x/", b"/%6Cimited/x", b"http://a/limited/x"])
async def test_a_limit_that_is_used_up_is_429_before_the_handshake(gate: Gate, reverb: Reverb, path: bytes) -> None:
    async with to(gate, "/limited/x"):
        answer, body = await denied(gate, b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert values(answer, b"content-type") == [b"application/problem+json"]
    assert 3590 <= int(values(answer, b"retry-after")[0]) <= 3600
    assert b"limit limited is used up" in body
    assert len(reverb.connections) == 1


async def test_a_denial_is_no_error_in_the_log(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """uvicorn would write one for each."""
    async with gate.raw(b"GET /api/sessions HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.rest()
    await asyncio.sleep(0.1)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


async def test_requests_and_handshakes_count_for_the_same_limit(gate: Gate) -> None:
    async with to(gate, "/limited/x"):
        assert (await gate.http.get("/limited/x")).status_code == 429


async def test_a_route_with_a_signature_or_a_source_in_the_body_is_400(
    tmp_path: Path, store_url: str, reverb: Reverb, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = """routes:
  - {{path: /signed, verify: workers, upstream: laravel}}
  - {{path: /looked-into, event: {{json: /event}}, upstream: laravel}}
"""
    monkeypatch.setattr(making, "POLICIES", making.POLICIES.replace("routes:\n", more))
    async with gateway(tmp_path, store_url, reverb.url) as gate:
        _, signed = await denied(gate, b"GET /signed HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
        answer, body = await denied(gate, b"GET /looked-into HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert b"takes signed requests only" in signed
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"this route reads /event from it: from a body, which a WebSocket does not have" in body
    assert reverb.connections == []


async def test_the_reserved_paths_are_not_passed_on(gate: Gate, reverb: Reverb) -> None:
    answer, body = await denied(gate, b"GET /_sluice/healthz HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"there are no WebSockets under /_sluice/" in body
    assert reverb.connections == []


@pytest.mark.parametrize("status", [401, 403, 404, 302, 200, 503])
async def test_a_handshake_that_the_upstream_refuses_is_refused_with_its_own_words(
    gate: Gate, reverb: Reverb, status: int
) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(status, "no such app\n")
        response.headers["X-Why"] = "1"
        response.headers["Location"] = reverb.url
        return response

    reverb.answer = refuse
    with pytest.raises(InvalidStatus) as refused:
        async with gate_client(gate):
            pass
    response = refused.value.response
    assert (response.status_code, bytes(response.body)) == (status, b"no such app\n")
    assert response.headers.get_all("X-Why") == ["1"]
    assert response.headers.get_all("Content-Type") == ["text/plain; charset=utf-8"]
    assert response.headers.get_all("Content-Length") == ["12"]


def gate_client(gate: Gate) -> connect:
    """A client that follows no redirects."""
    client = to(gate)
    client.process_redirect = lambda error: error  # type: ignore[assignment,method-assign]
    return client


async def test_a_chunked_refusal_is_passed_on_whole(tmp_path: Path, store_url: str) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n5\r\n here\r\n0\r\n\r\n")
        await call.gone()

    async with gate_to(play, tmp_path, store_url) as gate:
        head, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert head.startswith(b"HTTP/1.1 403 ")
    assert values(head, b"transfer-encoding") == []
    assert body == b"not here"


async def test_a_refusal_over_64_kib_keeps_its_status_and_loses_its_body(tmp_path: Path, store_url: str) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 500 Oops\r\nContent-Length: 65537\r\n\r\n" + b"x" * 65537)
        await call.gone()

    async with gate_to(play, tmp_path, store_url) as gate:
        head, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert body == b"refused by the upstream, in more words than are passed on here (64 KiB)\n"


async def test_an_unreachable_upstream_is_502(tmp_path: Path, store_url: str, free_port: Callable[[], int]) -> None:
    async with gateway(tmp_path, store_url, f"http://127.0.0.1:{free_port()}") as gate:
        head, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert values(head, b"content-type") == [b"application/problem+json"]
    assert b"laravel cannot be reached" in body


async def test_an_upstream_whose_handshakes_fail_is_left_alone(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    async with gateway(tmp_path, store_url, f"http://127.0.0.1:{free_port()}") as gate:
        for _ in range(MINIMUM):
            head, _ = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
            assert head.startswith(b"HTTP/1.1 502 ")
        handshake = (b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
        *handshakes, request = await asyncio.gather(
            *(denied(gate, *handshake) for _ in range(3)), asyncio.create_task(gate.http.get("/x"))
        )
        statuses = sorted([int(head[9:12]) for head, _ in handshakes] + [request.status_code])
        assert statuses == [502, 503, 503, 503], "requests and handshakes have one guard: one of them is the probe"
        assert any(b"upstream laravel unavailable, circuit open" in body for _, body in handshakes)


async def test_a_silent_upstream_is_504(tmp_path: Path, store_url: str) -> None:
    async with gate_to(lambda call: hold(call), tmp_path, store_url, headers="200ms") as gate:
        head, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert head.startswith(b"HTTP/1.1 504 ")
    assert b"laravel did not answer in time" in body


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (b"", "it is not HTTP/1.1"),
        (b"SSH-2.0-x\r\n", "it is not HTTP/1.1"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", ""),
        (
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
            "its Sec-WebSocket-Accept is wrong",
        ),
        (b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "it switches to another protocol"),
    ],
)
async def test_an_answer_that_is_none_is_502_and_the_log_says_why(
    tmp_path: Path, store_url: str, heard: Heard, answer: bytes, rule: str
) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(answer)
        if answer:
            await call.gone()

    async with gate_to(play, tmp_path, store_url) as gate:
        head, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"laravel answered what cannot be passed on" in body
    await until(lambda: "websocket" in heard.messages())
    (line,) = [fields for message, fields in heard.lines if message == "websocket"]
    cause = f"not the answer of a WebSocket server: {rule}" if rule else "an interim answer, or another protocol"
    assert line["why"] == f"laravel answered what cannot be passed on: {cause}"


async def test_the_log_says_why_a_handshake_could_not_be_brought_to_the_upstream(
    tmp_path: Path, store_url: str, heard: Heard, free_port: Callable[[], int]
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with gateway(tmp_path, store_url, url) as gate:
        head, _ = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    (line,) = [fields for message, fields in heard.lines if message == "websocket"]
    assert line["why"] == f"laravel cannot be reached: no connection to {url}: connection refused"


async def test_a_client_that_leaves_during_the_handshake_ends_it_upstream(
    tmp_path: Path, store_url: str, keep_history: Logged
) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def play(call: Call) -> None:
        await call.head()
        asked.set()
        await call.gone()
        gone.set()

    async with gate_to(play, tmp_path, store_url) as gate:
        async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n"):
            await asked.wait()
        async with asyncio.timeout(2):
            await gone.wait()
        await until(keep_history)
    assert keep_history()[0]["status"] == 499
