"""WebSockets through the whole gateway: real servers on both sides, raw sockets where the bytes matter."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from gateway.proxy import websocket
from gateway.proxy.circuit import MINIMUM
from sluice.observe import metrics
from tests.gateway import running as making
from tests.gateway.running import DENIED, FORWARDED, PROXY, Gate, gateway, start, values
from tests.heard import Heard
from tests.sluice.http.client.upstream import Call, Play, upstream
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server(without="hypercorn")]

Handle = Callable[[ServerConnection], Awaitable[None]]
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
ASKED = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
MIB = 1024 * 1024


class Reverb:
    """A WebSocket server that does what a test tells it to; echoes unless told otherwise."""

    def __init__(self) -> None:
        self.handle: Handle = echo
        self.connections: list[ServerConnection] = []
        self.answer: Callable[[ServerConnection, Request], Response | None] = lambda connection, request: None
        self.server: Server

    async def serve(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        await self.handle(connection)

    @property
    def url(self) -> str:
        port: int = next(iter(self.server.sockets)).getsockname()[1]
        return f"http://127.0.0.1:{port}"


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def linger(connection: ServerConnection) -> None:
    await connection.wait_closed()


@pytest.fixture
async def reverb() -> AsyncIterator[Reverb]:
    made = Reverb()
    async with serve(
        made.serve,
        "127.0.0.1",
        0,
        process_request=lambda connection, request: made.answer(connection, request),
        select_subprotocol=lambda connection, offered: Subprotocol("v2") if "v2" in offered else None,
        max_size=None,
        ping_interval=None,
    ) as made.server:
        yield made


@pytest.fixture
async def gate(
    tmp_path: Path, store_url: str, reverb: Reverb, stopping: list[asyncio.Task[None]]
) -> AsyncIterator[Gate]:
    gate, task = start(tmp_path, store_url, reverb.url)
    stopping.append(task)
    async with gate.http:
        yield gate
    gate.stop.request()


@contextlib.asynccontextmanager
async def gate_to(play: Play, folder: Path, store_url: str, headers: str = "10s") -> AsyncIterator[Gate]:
    """A gateway before an upstream that writes exactly these bytes."""
    async with upstream(play) as up, gateway(folder, store_url, str(up.origin), headers=headers) as gate:
        yield gate


def to(gate: Gate, path: str = "/app/key", **more: Any) -> connect:
    """A client's connection."""
    return connect(
        f"ws://127.0.0.1:{gate.port}{path}",
        proxy=None,
        ping_interval=None,
        max_size=None,
        **{"compression": None} | more,
    )


async def closed(client: ClientConnection | ServerConnection) -> tuple[int | None, str | None]:
    """What a side was closed with."""
    async with asyncio.timeout(10):
        await client.wait_closed()
    return client.close_code, client.close_reason


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


Logged = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def keep_history(heard: Heard) -> Logged:
    """The log lines of WebSockets that have ended."""
    return lambda: [fields for message, fields in heard.lines if message == "websocket"]


# --- before anything is opened


async def denied(gate: Gate, *pieces: bytes, address: str = "127.0.0.1") -> tuple[bytes, bytes]:
    """Head and body of the answer to a handshake that is refused."""
    async with gate.raw(*pieces, address=address) as client:
        return await client.head(), await client.rest()


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


@pytest.mark.parametrize(
    "path", [b"/limited/x", b"//limited/x", b"/%6Cimited/x", b"/limited%2Fx", b"http://a/limited/x"]
)
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
    answer, _ = await denied(gate, b"GET /_sluice/healthz HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert reverb.connections == []


# --- the handshake


async def test_target_and_headers_go_out_byte_for_byte(tmp_path: Path, store_url: str) -> None:
    heads: list[bytes] = []

    async def play(call: Call) -> None:
        heads.append(await call.head())

    sent = (
        b"Cookie: a=1\r\nOrigin: https://shop.example\r\nAuthorization: Bearer t\r\nUser-Agent: x/1\r\n"
        b"X-Two: 1\r\nX-Two: 2\r\nX-Latin: gr\xfcn\r\nCookie: b=2\r\n"
    )
    dropped = (
        b"X-Forwarded-For: 6.6.6.6\r\nX-Real-Ip: 6.6.6.6\r\nTE: trailers\r\nKeep-Alive: 5\r\nX-Hop: 1\r\n"
        b"Connection: X-Hop, Host\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Accept: x\r\n"
        b"Content-Length: 0\r\n"
    )
    async with gate_to(play, tmp_path, store_url) as gate:
        target = b"/app%2Fk;v=1//x?b=2&a=1&a=%20+/?"
        await denied(gate, b"GET ", target, b" HTTP/1.1\r\nHost: shop.example\r\n", sent, dropped, ASKED, b"\r\n")
        forwarded = FORWARDED % gate.port
    (head,) = heads
    start_line, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert start_line == b"GET " + target + b" HTTP/1.1"
    ours, made = fields[:-4], fields[-4:]
    lower = [line.partition(b": ")[0].lower() + b": " + line.partition(b": ")[2] for line in ours]
    expected = (b"Host: shop.example\r\n" + sent + forwarded).removesuffix(b"\r\n").split(b"\r\n")
    assert lower == [line.partition(b": ")[0].lower() + b": " + line.partition(b": ")[2] for line in expected]
    assert made[:2] + made[3:] == [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13"]
    assert made[2].startswith(b"Sec-WebSocket-Key: ")
    assert KEY not in made[2], "each side has a key of its own"


async def test_the_path_of_an_upstreams_url_goes_before_the_target(
    tmp_path: Path, store_url: str, reverb: Reverb
) -> None:
    async with gateway(tmp_path, store_url, reverb.url + "/base/") as gate, to(gate, "/app/key?v=1") as client:
        await client.send("hello")
        assert await client.recv() == "hello"
    request = reverb.connections[0].request
    assert request is not None
    assert request.path == "/base/app/key?v=1"


async def test_the_upstreams_choice_of_subprotocol_is_the_clients(gate: Gate, reverb: Reverb) -> None:
    offered = [Subprotocol("other"), Subprotocol("v2"), Subprotocol("pusher")]
    async with to(gate, subprotocols=offered) as client:
        assert client.subprotocol == "v2"
    async with to(gate) as client:
        assert client.subprotocol is None
    first, second = [connection.request for connection in reverb.connections]
    assert first is not None
    assert second is not None
    assert first.headers.get_all("Sec-WebSocket-Protocol") == ["other, v2, pusher"]
    assert second.headers.get_all("Sec-WebSocket-Protocol") == []


async def test_the_upstreams_headers_reach_the_client_and_its_hop_by_hop_ones_do_not(
    tmp_path: Path, store_url: str
) -> None:
    async def play(call: Call) -> None:
        head = await call.head()
        accept = accept_key(values(head, b"sec-websocket-key")[0].decode()).encode()
        call.say(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade, X-Hop\r\nX-Hop: 1\r\n"
            b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Latin: gr\xfcn\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            b"\x81\x05early"
        )
        await call.until(b"\x88\x80")  # an empty close frame, masked

    async with (
        gate_to(play, tmp_path, store_url) as gate,
        gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client,
    ):
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert values(head, b"set-cookie") == [b"a=1", b"b=2"]
        assert values(head, b"x-latin") == [b"gr\xfcn"]
        assert values(head, b"sec-websocket-accept") == [ACCEPT]
        assert values(head, b"upgrade") == [b"websocket"]
        assert values(head, b"x-hop") == values(head, b"sec-websocket-extensions") == []
        assert await client.exactly(7) == b"\x81\x05early", "what the upstream says at once"
        client.send(frame(Opcode.CLOSE, b""))
        await client.rest()


# --- refused by the upstream, or not answered


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
        head, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"upstream laravel unavailable, circuit open" in body
        assert (await gate.http.get("/x")).status_code == 503, "requests and handshakes have one guard"


async def test_a_silent_upstream_is_504(tmp_path: Path, store_url: str) -> None:
    async with gate_to(lambda call: hold(call), tmp_path, store_url, headers="200ms") as gate:
        head, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert head.startswith(b"HTTP/1.1 504 ")
    assert b"laravel did not answer in time" in body


async def hold(call: Call) -> None:
    await call.gone()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    ],
)
async def test_an_answer_that_is_none_is_502(tmp_path: Path, store_url: str, answer: bytes) -> None:
    async def play(call: Call) -> None:
        await call.head()
        call.say(answer)
        if answer:
            await call.gone()

    async with gate_to(play, tmp_path, store_url) as gate:
        head, body = await denied(gate, b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert b"laravel broke off before it answered" in body


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


# --- messages


@pytest.mark.parametrize("message", ["", "hello", "größe 🌊", b"", b"\0\xff", b"x" * 70_000])
async def test_text_stays_text_and_binary_binary(gate: Gate, message: str | bytes) -> None:
    async with to(gate) as client:
        await client.send(message)
        assert await client.recv() == message


async def test_messages_keep_their_order(gate: Gate) -> None:
    async with to(gate) as client:
        for number in range(2000):
            await client.send(str(number) if number % 2 else b"%d" % number)
        for number in range(2000):
            assert await client.recv() == (str(number) if number % 2 else b"%d" % number)


async def test_fragmented_messages_arrive_whole(gate: Gate, reverb: Reverb) -> None:
    async def pieces(connection: ServerConnection) -> None:
        assert await connection.recv() == "one two three"
        await connection.send([b"four", b"", b" five"])

    reverb.handle = pieces
    sent = (
        *(frame(Opcode.TEXT, b"one ", fin=False), frame(Opcode.CONT, b"two", fin=False), frame(Opcode.PING, b"?")),
        frame(Opcode.CONT, b" three"),
    )
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        client.send(*sent)
        assert await client.exactly(3) == b"\x8a\x01?", "the ping is answered here"
        assert await client.exactly(11) == b"\x82\x09four five"


async def test_messages_of_16_mib_pass_both_ways(gate: Gate) -> None:
    message = os.urandom(MIB) * 16
    async with to(gate) as client:
        await client.send(message)
        assert await client.recv() == message


async def test_a_larger_message_from_the_client_is_1009(gate: Gate, reverb: Reverb) -> None:
    async with to(gate) as client:
        with contextlib.suppress(ConnectionClosed):
            await client.send(b"x" * (16 * MIB + 1))
        assert (await closed(client))[0] == 1009
        assert (await closed(reverb.connections[0]))[0] == 1009


async def test_a_larger_message_from_the_upstream_is_1009_there_and_1011_here(gate: Gate, reverb: Reverb) -> None:
    async def large(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await connection.send(b"x" * (16 * MIB + 1))
        await connection.wait_closed()

    reverb.handle = large
    async with to(gate) as client:
        assert await closed(client) == (1011, "the upstream broke off")
        assert (await closed(reverb.connections[0]))[0] == 1009


async def test_a_client_with_compression_is_spoken_to_with_it(gate: Gate, reverb: Reverb) -> None:
    async with to(gate, compression="deflate") as client:
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        await client.send("x" * 100_000)
        assert await client.recv() == "x" * 100_000
    assert reverb.connections[0].protocol.extensions == []


async def test_a_slow_client_stops_a_fast_upstream(gate: Gate, reverb: Reverb) -> None:
    sent = 0

    async def flood(connection: ServerConnection) -> None:
        nonlocal sent
        for number in range(400):
            await connection.send(number.to_bytes(2) + b"x" * 100_000)
            sent += 1

    reverb.handle = flood
    async with to(gate, max_queue=1) as client:
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 350, "sockets hold a few MiB; the rest must wait"
        for number in range(400):
            assert (await client.recv())[:2] == number.to_bytes(2)


async def test_a_slow_upstream_stops_a_fast_client(gate: Gate, reverb: Reverb) -> None:
    go = asyncio.Event()
    received = 0

    async def slow(connection: ServerConnection) -> None:
        nonlocal received
        connection.transport.pause_reading()
        await go.wait()
        connection.transport.resume_reading()
        async for message in connection:
            assert message[:2] == received.to_bytes(2)
            received += 1

    reverb.handle = slow
    async with to(gate) as client:
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for number in range(400):
                await client.send(number.to_bytes(2) + b"x" * 100_000)
                sent += 1

        flooding = asyncio.create_task(flood())
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.3)
        assert sent < 350
        go.set()
        await flooding
        await until(lambda: received == 400)


# --- the end


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4009, 4999])
async def test_the_clients_close_is_the_upstreams(gate: Gate, reverb: Reverb, code: int) -> None:
    async with to(gate) as client:
        await client.send("last")
        assert await client.recv() == "last"
        await client.close(code, "größe")
    assert await closed(reverb.connections[0]) == (code, "größe")


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 3000, 4009, 4999])
async def test_the_upstreams_close_is_the_clients(gate: Gate, reverb: Reverb, code: int) -> None:
    async def close(connection: ServerConnection) -> None:
        for number in range(50):
            await connection.send(str(number))
        await connection.close(code, "größe")

    reverb.handle = close
    async with to(gate) as client:
        assert [await client.recv() for _ in range(50)] == [str(number) for number in range(50)]
        assert await closed(client) == (code, "größe")


async def test_a_close_without_a_code_stays_one(gate: Gate, reverb: Reverb) -> None:
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        client.send(frame(Opcode.CLOSE, b""))
        assert await client.rest() == b"\x88\x00"
    assert (await closed(reverb.connections[0]))[0] == 1005

    async def close(connection: ServerConnection) -> None:
        async with connection.send_context():
            connection.protocol.send_close()

    reverb.handle = close
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        assert await client.exactly(2) == b"\x88\x00"


async def test_a_client_that_vanishes_is_told_upstream_at_once_and_never_as_1000(
    gate: Gate, reverb: Reverb, keep_history: Logged
) -> None:
    reverb.handle = linger
    async with to(gate) as client:
        await until(lambda: reverb.connections)
        client.transport.abort()
        async with asyncio.timeout(2):
            assert (await closed(reverb.connections[0]))[0] == 1001
    await until(keep_history)
    assert (keep_history()[0]["code"], keep_history()[0]["ended_by"]) == (1006, "client")


async def test_an_upstream_that_vanishes_is_1011_for_the_client_at_once(
    gate: Gate, reverb: Reverb, keep_history: Logged
) -> None:
    async def vanish(connection: ServerConnection) -> None:
        await connection.send("last")
        await connection.recv()
        connection.transport.abort()

    reverb.handle = vanish
    async with to(gate) as client:
        await client.send("go")
        assert await client.recv() == "last"
        async with asyncio.timeout(2):
            assert await closed(client) == (1011, "the upstream broke off")
    await until(keep_history)
    assert (keep_history()[0]["code"], keep_history()[0]["ended_by"]) == (1006, "upstream")


async def test_an_upstream_that_closes_and_stays_does_not_keep_the_client(tmp_path: Path, store_url: str) -> None:
    """The library would wait for it to close its socket."""

    async def play(call: Call) -> None:
        accept = accept_key(values(await call.head(), b"sec-websocket-key")[0].decode()).encode()
        call.say(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ", accept)
        call.say(b"\r\n\r\n\x88\x02\x0f\xa1")
        await asyncio.Event().wait()

    async with gate_to(play, tmp_path, store_url) as gate, to(gate) as client:
        async with asyncio.timeout(2):
            assert await closed(client) == (4001, "")


async def test_frames_that_break_the_protocol_are_1002_for_who_sent_them(gate: Gate, reverb: Reverb) -> None:
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        client.send(b"\x83\x80\0\0\0\0")
        assert (await client.rest())[2:4] == (1002).to_bytes(2)
    assert (await closed(reverb.connections[0]))[0] == 1002

    async def unmasked_nonsense(connection: ServerConnection) -> None:
        connection.transport.write(b"\x83\x00")
        await connection.wait_closed()

    reverb.handle = unmasked_nonsense
    async with to(gate) as other:
        assert await closed(other) == (1011, "the upstream broke off")
    assert (await closed(reverb.connections[1]))[0] == 1002


async def test_what_an_upstream_floods_with_does_not_delay_the_clients_close(gate: Gate, reverb: Reverb) -> None:
    async def flood(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(b"x" * 10_000)

    reverb.handle = flood
    async with to(gate) as client:
        await client.recv()
        closing = asyncio.create_task(client.close(4001, "enough"))
        async with asyncio.timeout(3):
            assert await closed(reverb.connections[0]) == (4001, "enough")
        client.transport.abort()
        await closing


# --- quiet, stuck and dead


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every time is short, but for the policy's own `idle` (10 s)."""
    monkeypatch.setattr(websocket, "PING_EVERY", 0.2)
    monkeypatch.setattr(websocket, "PING_WITHIN", 0.2)
    monkeypatch.setattr(websocket, "CLOSED_WITHIN", 0.5)
    quick = functools.partial(uvicorn.Config, ws_ping_interval=0.2, ws_ping_timeout=0.2)
    monkeypatch.setattr("sluice.http.server.serving.uvicorn.Config", quick)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """`idle` is half a second, and closing takes no longer."""
    monkeypatch.setattr(making, "POLICIES", making.POLICIES.replace("idle: 10s", "idle: 500ms"))
    monkeypatch.setattr(websocket, "IDLE_AT_LEAST", 0.5)
    monkeypatch.setattr(websocket, "CLOSED_WITHIN", 0.3)


@pytest.mark.usefixtures("quick")
async def test_a_quiet_connection_stays_while_both_sides_answer_pings(gate: Gate, reverb: Reverb) -> None:
    async with to(gate) as client:
        await asyncio.sleep(1.5)
        await client.send("still there")
        assert await client.recv() == "still there"


@pytest.mark.usefixtures("quick")
async def test_an_upstream_that_answers_no_ping_is_given_up(gate: Gate, reverb: Reverb) -> None:
    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    reverb.handle = deaf
    async with to(gate) as client:
        async with asyncio.timeout(3):
            assert await closed(client) == (1011, "the upstream broke off")
        reverb.connections[0].transport.abort()


@pytest.mark.usefixtures("quick")
async def test_a_client_that_answers_no_ping_is_given_up(gate: Gate, reverb: Reverb) -> None:
    reverb.handle = linger
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        await until(lambda: reverb.connections)
        async with asyncio.timeout(3):
            assert (await closed(reverb.connections[0]))[0] in (1001, 1011)


@pytest.mark.usefixtures("impatient")
async def test_an_upstream_that_takes_nothing_is_given_up_after_idle(gate: Gate, reverb: Reverb) -> None:

    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    reverb.handle = deaf
    async with to(gate) as client:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await client.send(b"x" * 1_000_000)
        assert await closed(client) == (1011, "the upstream takes no messages")
        reverb.connections[0].transport.abort()


@pytest.mark.usefixtures("impatient")
async def test_a_client_that_takes_nothing_is_given_up_after_idle(gate: Gate, reverb: Reverb) -> None:

    async def flood(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                await connection.send(b"x" * 1_000_000)

    reverb.handle = flood
    async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
        await client.head()
        assert await closed(reverb.connections[0]) == (1001, "the client takes no messages")


# --- stopping, counting


async def test_a_stop_closes_both_sides_with_1012_and_leaves_no_task(
    tmp_path: Path, store_url: str, reverb: Reverb, keep_history: Logged
) -> None:
    reverb.handle = linger
    before = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as clients:
        async with gateway(tmp_path, store_url, reverb.url) as gate:
            opened = [await clients.enter_async_context(to(gate)) for _ in range(20)]
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 3
        assert {(await closed(client))[0] for client in opened} == {1012}
        assert {(await closed(connection))[0] for connection in reverb.connections} == {1012}
    assert len(keep_history()) == 20
    assert {(line["code"], line["ended_by"]) for line in keep_history()} == {(1012, "gateway")}
    await until(lambda: not {task for task in asyncio.all_tasks() - before if "websocket" in repr(task.get_coro())})


async def test_a_stop_does_not_wait_for_a_handshake(tmp_path: Path, store_url: str) -> None:
    async with upstream(hold) as up:
        gate, task = start(tmp_path, store_url, str(up.origin))
        async with gate.raw(b"GET /x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n") as client:
            await until(lambda: up.calls)
            gate.stop.request()
            async with asyncio.timeout(3):
                await task
            assert (await client.head()).startswith(b"HTTP/1.1 500 ")
        await gate.http.aclose()


async def test_one_log_line_and_one_count_for_each_connection(gate: Gate, keep_history: Logged) -> None:
    def counted(status: str) -> float:
        return metrics.registry().get_sample_value("sluice_requests_total", {"route": "/**", "status": status}) or 0.0

    before = counted("101")
    async with to(gate, "/app/key?secret=1") as client:
        assert counted("101") == before + 1, "counted when it is answered, not when it ends"
        await client.send("one")
        await client.send("two")
        await client.recv()
        await client.recv()
        await client.close(4001)
    await until(keep_history)
    (line,) = keep_history()
    assert 0 < line.pop("seconds") < 5
    assert line == {
        "path": "/app/key",
        "route": "/**",
        "status": 101,
        "code": 4001,
        "ended_by": "client",
        "from_client": 2,
        "from_upstream": 2,
        "client": "127.0.0.1",
        "event": None,
        "session": None,
        "limit": None,
        "why": None,
    }


async def test_a_refused_handshake_is_logged_with_its_reason(gate: Gate, keep_history: Logged) -> None:
    async with to(gate, "/limited/x"):
        await denied(gate, b"GET /limited/x HTTP/1.1\r\nHost: a\r\n", ASKED, b"\r\n")
        await until(keep_history)
        (line,) = keep_history()
    assert (line["status"], line["code"], line["limit"]) == (429, None, "limited")
    assert line["why"] == "limit limited is used up"
