"""The server's side of HTTP/1.1, against raw sockets and without a gateway behind it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from sluice.http.server import ClientBounds, Cycle, Direct, head as server_head, protocol as server_protocol, serving
from sluice.process.loops import Stop
from tests.waiting import until

pytestmark = pytest.mark.anyio

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"


@pytest.fixture(scope="module", params=[("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


_stopping: list[asyncio.Task[None]] = []


@pytest.fixture(scope="module", autouse=True)
async def _stopped(anyio_backend: Any) -> AsyncIterator[None]:
    """Stopping takes a server 0.2 s: those of a module do it side by side, behind the tests."""
    yield
    await asyncio.gather(*_stopping)
    _stopping.clear()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    async def head(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.read()


class Server:
    def __init__(self, port: int, stop: Stop, running: asyncio.Task[None]) -> None:
        self.port = port
        self.stop = stop
        self.running = running

    @asynccontextmanager
    async def client(self, *sent: bytes) -> AsyncIterator[Client]:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        client.send(*sent)
        try:
            yield client
        finally:
            client.writer.close()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()


@asynccontextmanager
async def served(app: App, direct: Direct | None = None, **bounds: float) -> AsyncIterator[Server]:
    """`bounds`: of its clients, where they are not the usual ones."""
    stop, bound = Stop(), serving.listening("127.0.0.1", 0)
    running = asyncio.create_task(serving.serve(app, bound, stop, direct, lambda: replace(ClientBounds(), **bounds)))
    try:
        yield Server(bound.getsockname()[1], stop, running)
    finally:
        stop.request()
        _stopping.append(running)


def looking(cycles: list[Cycle]) -> Direct:
    """Keeps what it is asked, and answers nothing."""

    def look(cycle: Cycle) -> None:
        cycles.append(cycle)

    return look


async def body_of(receive: Any) -> bytes:
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client went")
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces)


def undated(answer: bytes) -> bytes:
    """Without its Date (RFC 9110 section 6.6.1), which is there exactly once."""
    left, dates = re.subn(rb"Date: [A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT\r\n", b"", answer)
    assert dates == 1, answer
    return left


def answering(seen: list[Any], *pieces: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), status: int = 200) -> App:
    """Keeps scope and body, and answers; without a Content-Length unless it is among the headers."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append((scope, await body_of(receive)))
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return app


def ok(seen: list[Any]) -> App:
    return answering(seen, b"ok", headers=((b"content-length", b"2"),))


# --- the scope


@pytest.mark.parametrize(
    ("sent", "target", "raw_path", "query"),
    [
        (b"/a", b"/a", b"/a", b""),
        (b"/a?", b"/a?", b"/a", b""),
        (b"/a??b=%2f&c", b"/a??b=%2f&c", b"/a", b"?b=%2f&c"),
        (b"//a%2Fb/../;c", b"//a%2Fb/../;c", b"//a%2Fb/../;c", b""),
        (b"http://a/b?c", b"/b?c", b"/b", b"c"),
        (b"HTTP://A?c", b"/?c", b"/", b"c"),
        (b"/caf\xc3\xa9?\xff", b"/caf\xc3\xa9?\xff", b"/caf\xc3\xa9", b"\xff"),
        (b"*", b"*", b"*", b""),
    ],
)
async def test_the_target_is_told_as_it_came(sent: bytes, target: bytes, raw_path: bytes, query: bytes) -> None:
    seen: list[Any] = []
    cycles: list[Cycle] = []
    head = b"OPTIONS %b HTTP/1.1\r\nHost: a\r\n\r\n" % sent
    async with served(ok(seen), looking(cycles)) as server, server.client(head) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    scope, _ = seen[0]
    assert (cycles[0].head.target, scope["raw_path"], scope["query_string"]) == (target, raw_path, query)


@pytest.mark.parametrize(
    "method", [b"GET", b"get", b"PROPFIND", b"SOURCE", b"M-SEARCH", b"X-OWN!", b"POSTER", b"QUERY"]
)
async def test_any_token_is_a_method(method: bytes) -> None:
    """RFC 9110 section 9.1: case counts, and what a method means is for the origin to say."""
    seen: list[Any] = []
    sent = method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    async with served(ok(seen)) as server, server.client(sent, sent) as client:
        for _ in range(2):
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            assert await client.reader.readexactly(2) == b"ok"
    assert [(scope["method"], body) for scope, body in seen] == [(method.decode(), b"hi")] * 2


async def test_white_space_around_a_value_is_not_part_of_it_and_trailers_are_no_headers() -> None:
    seen: list[Any] = []
    head = b"POST / HTTP/1.1\r\nHost: a\r\nX: \t a \tb\xff \t\r\nx:\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(ok(seen)) as server, server.client(head) as client:
        client.send(b"1\r\na\r\n0\r\nX-Forwarded-For: 1\r\n\r\n", GET)
        for _ in range(2):
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            await client.reader.readexactly(2)
    scope, body = seen[0]
    assert scope["headers"] == [(b"host", b"a"), (b"x", b"a \tb\xff"), (b"x", b""), (b"transfer-encoding", b"chunked")]
    assert body == b"a"


@pytest.mark.parametrize("host", [b"Host: a\r\n", b"Host: other\r\n", b"X: y\r\nhost: other:81\r\nZ: z\r\n"])
async def test_the_host_of_an_absolute_target_counts_and_replaces_the_header(host: bytes) -> None:
    """RFC 9112 section 3.2.2; a Host that names another one would be read by whoever is behind us."""
    seen: list[Any] = []
    async with served(ok(seen)) as server, server.client(b"GET http://A:8080/b HTTP/1.1\r\n", host, b"\r\n") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    headers = seen[0][0]["headers"]
    assert headers == [(b"host", b"A:8080"), *([(b"x", b"y"), (b"z", b"z")] if b"X" in host else [])]


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0, h2c"])
@pytest.mark.parametrize(
    "framed", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
async def test_an_upgrade_beside_a_body_is_ignored_and_the_body_kept(upgrade: bytes, framed: bytes) -> None:
    """RFC 9110 section 7.8."""
    seen: list[Any] = []
    head = b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade
    async with served(ok(seen)) as server, server.client(head, b"\r\nHTTP2-Settings: x\r\n", framed, GET) as client:
        for _ in range(2):
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            await client.reader.readexactly(2)
    assert [body for _, body in seen] == [b"abc", b""]
    assert (b"http2-settings", b"x") in seen[0][0]["headers"]


async def test_an_upgrade_to_nothing_we_know_is_ignored() -> None:
    seen: list[Any] = []
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with served(ok(seen)) as server, server.client(head, GET) as client:
        for _ in range(2):
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            await client.reader.readexactly(2)


HANDSHAKE = (
    b"Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_a_websocket_is_handed_on_once_its_head_is_right() -> None:
    targets = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await ok([])(scope, receive, send)
            return
        targets.append((scope["path"], scope["raw_path"]))
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})

    async with served(app) as server:
        async with server.client(GET, b"GET /w\xc3\xa9 HTTP/1.1\r\nHost: a\r\n", HANDSHAKE) as client:
            await client.head()
            await client.reader.readexactly(2)
            assert (await client.head()).startswith(b"HTTP/1.1 101 ")
        assert targets == [("/w\xe9", b"/w%C3%A9")], "the library that answers handshakes reads ASCII only"
        async with server.client(b"GET /ws HTTP/1.1\r\n", HANDSHAKE) as client:
            assert (await client.head()).startswith(b"HTTP/1.1 400 ")


# --- bounds


async def test_a_head_of_64_kib_is_read_and_one_byte_more_is_not() -> None:
    seen: list[Any] = []
    begin, end = b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"\r\n\r\n"
    fill = server_head.MAX_HEAD - len(begin) - len(end)
    async with served(ok(seen)) as server:
        for size, status in ((fill, b"200"), (fill + 1, b"431")):
            async with server.client(begin, b"a" * size, end) as client:
                assert (await client.head()).split(b" ")[1] == status


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n"])
async def test_a_head_that_trickles_in_is_408(sent: bytes) -> None:
    seen: list[Any] = []
    async with served(ok(seen), head=0.3) as server, server.client(GET) as client:
        await client.head()
        await client.reader.readexactly(2)
        begin = asyncio.get_running_loop().time()
        for byte in sent:
            client.send(bytes((byte,)))
            await asyncio.sleep(0.001)
        answer = await client.rest()
        assert 0.25 < asyncio.get_running_loop().time() - begin < 4
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close\r\n" in answer
    assert b"application/problem+json" in answer
    assert len(seen) == 1


async def test_a_slow_head_does_not_end_the_request_that_it_became() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(1.2)
        await ok([])(scope, receive, send)

    async with served(app, head=0.8) as server, server.client(GET[:5]) as client:
        await asyncio.sleep(0.05)
        client.send(GET[5:])
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        await client.reader.readexactly(2)
        await asyncio.sleep(0.9)
        client.send(GET)
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


async def test_an_idle_connection_is_closed_after_the_keep_alive_timeout() -> None:
    assert ClientBounds().keep_alive == 75
    async with served(ok([]), keep_alive=0.8) as server:
        begin = asyncio.get_running_loop().time()
        async with server.client(GET) as asked:
            await asked.head()
            await asyncio.sleep(0.2)
            asked.send(GET)
            assert (await asked.rest()).startswith(b"okHTTP/1.1 200 ")
            assert 0.95 < asyncio.get_running_loop().time() - begin < 5


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "an empty line"])
async def test_a_connection_that_brings_no_request_is_closed(sent: bytes) -> None:
    """Browsers open some ahead, so nothing is answered. A thousand of these would be all the files of a process."""
    assert ClientBounds().first_byte == 10
    async with served(ok([]), first_byte=0.5) as server, server.client(GET) as asked:
        begin = asyncio.get_running_loop().time()
        async with server.client(sent) as silent:
            assert await silent.rest() == b""
            assert 0.45 < asyncio.get_running_loop().time() - begin < 4
        asked.send(GET)
        assert (await asked.head()).startswith(b"HTTP/1.1 200 "), "one that has asked may be quiet for longer"


async def test_a_first_request_that_takes_long_is_not_a_silent_connection() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)
        await ok([])(scope, receive, send)

    async with served(app, first_byte=0.1) as server, server.client(GET) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        await client.reader.readexactly(2)
        await asyncio.sleep(0.2)
        client.send(GET)
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("framed", [b"Content-Length: 8\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
async def test_a_body_that_stops_coming_is_408(framed: bytes) -> None:
    seen: list[Any] = []
    head = b"PUT / HTTP/1.1\r\nHost: a\r\n" + framed
    bytewise = [b"x"] * 8 if b"Length" in framed else [b"1\r\nx\r\n"] * 8 + [b"0\r\n\r\n"]
    async with served(ok(seen), body=0.8) as server, server.client(head) as slow, server.client(head) as stalled:
        begin = asyncio.get_running_loop().time()
        for piece in bytewise:
            slow.send(piece)
            await asyncio.sleep(0.1)
        assert (await slow.head()).startswith(b"HTTP/1.1 200 "), "slow, but it came"
        answer = await stalled.rest()
        assert asyncio.get_running_loop().time() - begin < 4
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"no more of the body came for 0.8 seconds (clients.body)" in answer
    assert [body for _, body in seen] == [b"x" * 8]


async def test_a_body_that_nobody_takes_is_not_late() -> None:
    """Neither one that waits for `100 Continue`, nor one whose reading was paused."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(1.5)
        await ok([])(scope, receive, send)

    head = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
    async with served(app, body=0.6) as server:
        async with server.client(head, b"Expect: 100-continue\r\n\r\n") as asking:
            assert (await asking.head()).startswith(b"HTTP/1.1 100 ")
            asking.send(bytes(1_000_000))
            assert (await asking.head()).startswith(b"HTTP/1.1 200 ")
        async with server.client(head, b"\r\n", bytes(900_000)) as paused:
            await asyncio.sleep(1.6)
            paused.send(bytes(100_000))
            assert (await paused.head()).startswith(b"HTTP/1.1 200 ")


LARGE = 32 * 2**20


def large(done: list[str]) -> App:
    """Answers far more than kernels buffer."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % LARGE)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(LARGE // 2**16):
            await send({"type": "http.response.body", "body": bytes(2**16), "more_body": True})
        await send({"type": "http.response.body"})
        done.append("answered")

    return app


async def test_a_client_that_takes_nothing_of_its_answer_is_cut() -> None:
    told: list[str] = []
    cycles: list[Cycle] = []

    def looking(cycle: Cycle) -> None:
        cycles.append(cycle)
        cycle.on_disconnect(lambda: told.append("gone"))

    async with served(large([]), looking, send=0.5) as server, server.client() as client:
        begin = asyncio.get_running_loop().time()
        client.writer.transport.pause_reading()
        client.send(GET)
        await until(lambda: told)
        assert 0.45 < asyncio.get_running_loop().time() - begin < 4
        client.writer.transport.resume_reading()
        with pytest.raises(ConnectionResetError):
            await client.rest()
    assert cycles[0].why_gone == "the client took nothing of its answer for 0.5 seconds (clients.send)"


async def test_a_client_that_takes_its_answer_slowly_gets_all_of_it() -> None:
    """The clock begins anew with each byte that it takes, not with each that fits into our kernel's megabytes."""
    done: list[str] = []
    async with served(large(done), send=1.0) as server, server.client() as client:
        wire = client.writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        client.send(GET)
        await client.head()
        taken = 0
        for _ in range(20):
            taken += len(await client.reader.read(2**16))
            await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            taken += len(await client.reader.readexactly(LARGE - taken))
    assert (taken, done) == (LARGE, ["answered"])


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="the kernel cannot be told")
async def test_the_kernel_keeps_little_of_an_answer_that_its_client_does_not_take() -> None:
    """By itself it would keep 4 MiB of each."""
    written = 0

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal written
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while written < 2**24:
            await send({"type": "http.response.body", "body": bytes(2**14), "more_body": True})
            written += 2**14

    async with served(app) as server, server.client() as client:
        client.writer.transport.pause_reading()
        client.send(GET)
        before = -1
        while written != before or not written:
            before = written
            await asyncio.sleep(0.3)
        assert written < 2**20
        client.writer.transport.abort()


async def test_the_end_of_an_answer_that_nobody_takes_keeps_no_connection() -> None:
    """What was answered whole, and what ends a connection, is cut too: closing alone would wait for it to be read."""
    size = 8 * 2**20

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(size)})

    last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    cycles: list[Cycle] = []
    async with served(app, looking(cycles), send=0.5) as server, server.client() as kept, server.client() as ending:
        for client, sent in ((kept, GET), (ending, last)):
            client.writer.transport.pause_reading()
            client.send(sent)
        await until(lambda: [cycle.response_complete for cycle in cycles] == [True, True])
        wires = [cycle.transport.get_extra_info("socket") for cycle in cycles]
        await until(lambda: [wire.fileno() for wire in wires] == [-1, -1] or all(map(_is_over, cycles)))


async def test_a_client_that_takes_nothing_of_a_stream_that_pauses_is_cut() -> None:
    """Little is left that the kernel did not take, and no more comes: as of events that are rare."""
    cycles: list[Cycle] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        waiting = 0
        while not waiting:
            await send({"type": "http.response.body", "body": bytes(1024), "more_body": True})
            await asyncio.sleep(0.0005)
            waiting = cycles[0].transport.get_write_buffer_size()
        assert waiting < 16 * 1024
        while (await receive())["type"] != "http.disconnect":
            pass

    async with served(app, looking(cycles), send=0.5) as server, server.client() as client:
        wire = client.writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        client.writer.transport.pause_reading()
        client.send(GET)
        await until(lambda: cycles and cycles[0].why_gone, timeout=30)
        assert cycles[0].why_gone == "the client took nothing of its answer for 0.5 seconds (clients.send)"


def _is_over(cycle: Cycle) -> bool:
    return cycle.transport.is_closing() and not cycle.transport.get_write_buffer_size()


async def test_a_body_is_not_read_ahead_of_whoever_takes_it() -> None:
    go_on, took = asyncio.Event(), []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await go_on.wait()
        took.append(len((await receive())["body"]))
        await ok([])(scope, receive, send)

    size = 32 * 2**20
    async with served(app) as server, server.client(b"PUT / HTTP/1.1\r\nHost: a\r\n") as client:
        client.send(b"Content-Length: %d\r\n\r\n" % size)
        client.writer.write(bytes(size))
        await asyncio.sleep(0.3)
        assert client.writer.transport.get_write_buffer_size() > size // 2, "the server read on"
        go_on.set()
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    assert took[0] <= server_protocol.MAX_UNREAD + 256 * 1024


async def test_requests_sent_ahead_wait_within_bounds() -> None:
    go_on = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.create_task(receive())  # as a proxy that listens for the client's leaving
        await go_on.wait()
        waiting.cancel()
        await ok([])(scope, _nothing, send)

    async def _nothing() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    count = 200_000
    async with served(app) as server, server.client(GET * count) as client:
        await asyncio.sleep(0.3)
        assert client.writer.transport.get_write_buffer_size() > 0
        go_on.set()
        for _ in range(50):
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            await client.reader.readexactly(2)
        client.writer.transport.abort()


async def test_requests_sent_ahead_wait_until_the_answers_before_them_are_taken() -> None:
    """Else a client that asks for much and reads nothing would fill the memory with answers."""
    answer, count = bytes(2**16), 1000
    cycles: list[Cycle] = []

    async def at_once(cycle: Cycle) -> None:
        cycles.append(cycle)
        cycle.begin(200, [b"Content-Length: %d\r\n" % len(answer)], len(answer), answer, more=False)

    async with served(ok([]), at_once) as server, server.client() as client:
        client.writer.transport.pause_reading()
        client.send(GET * count)
        await asyncio.sleep(0.5)
        begun = len(cycles)
        assert cycles[-1].transport.get_write_buffer_size() <= 2 * len(answer)
        await asyncio.sleep(0.3)
        assert len(cycles) == begun < count
        client.writer.transport.resume_reading()
        for _ in range(count):
            assert (await client.head()).startswith(b"HTTP/1.1 200 ")
            await client.reader.readexactly(len(answer))


# --- answers


async def test_an_http_1_0_client_gets_no_chunks_but_an_answer_that_ends_with_the_connection() -> None:
    async with served(answering([], b"one", b"two")) as server, server.client(OLD) as client:
        answer = await client.rest()
    head, _, body = undated(answer).partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [b"HTTP/1.1 200 OK", b"connection: close"]
    assert body == b"onetwo"


async def test_an_http_1_0_client_gets_a_length_that_is_known() -> None:
    async with served(ok([])) as server, server.client(OLD) as client:
        assert undated(await client.rest()) == (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")


KEPT = b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"


async def test_an_http_1_0_client_that_asks_for_it_keeps_its_connection() -> None:
    """As `ab -k` does, and as nginx answers it."""
    async with served(ok([])) as server, server.client() as client:
        for _ in range(2):
            client.send(KEPT)
            answer = undated(await client.head())
            assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n"
            assert await client.reader.readexactly(2) == b"ok"
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n")
        assert (await client.rest()).endswith(b"connection: close\r\n\r\nok")


async def test_an_answer_of_unknown_length_ends_an_http_1_0_connection_that_was_to_be_kept() -> None:
    async with served(answering([], b"one", b"two")) as server, server.client(KEPT) as client:
        assert undated(await client.rest()) == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonetwo"


async def test_an_answer_that_ends_with_the_connection_is_reset_when_it_is_cut() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(0.1)

    async with served(app) as server, server.client(OLD) as client:
        await client.head()
        with pytest.raises(ConnectionResetError):
            await client.rest()


async def test_an_answer_of_unknown_length_is_in_chunks() -> None:
    async with served(answering([], b"one", b"", b"two")) as server, server.client(GET) as client:
        assert undated(await client.head()) == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        assert await client.reader.readexactly(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status", "told"),
    [(b"HEAD", 200, b"content-length: 5\r\n"), (b"GET", 304, b"content-length: 5\r\n"), (b"GET", 204, b"")],
)
async def test_an_answer_without_a_body_tells_its_length_where_it_may(method: bytes, status: int, told: bytes) -> None:
    """RFC 9110 section 8.6."""
    app = answering([], headers=((b"content-length", b"5"),), status=status)
    sent = method + b" / HTTP/1.1\r\nHost: a\r\n\r\n"
    async with served(app) as server, server.client(sent, sent) as client:
        for _ in range(2):
            assert undated(await client.head()).partition(b"\r\n")[2] == told + b"\r\n"


@pytest.mark.parametrize(
    "header",
    [(b"x", b"a\r\nb: c"), (b"x", b"a\r\n"), (b"x", b"a\x00"), (b"x:y", b"a"), (b"", b"a"), (b"x\r\n", b"a")],
)
async def test_a_header_that_would_be_two_is_never_sent(header: tuple[bytes, bytes]) -> None:
    async with served(answering([], headers=(header,))) as server, server.client(GET) as client:
        answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"application/problem+json" in answer


@pytest.mark.parametrize("pieces", [(b"four",), (b"fourfo",)])
async def test_an_answer_of_another_length_than_it_says_is_cut(pieces: tuple[bytes, ...]) -> None:
    app = answering([], *pieces, headers=((b"content-length", b"5"),))
    async with served(app) as server, server.client(GET, GET) as client:
        await client.head()
        assert len(await client.rest()) < 5


async def test_a_refusal_reaches_a_client_that_still_sends() -> None:
    """Closed at once, the kernel would answer the rest with a reset, and the client might never read why."""
    async with served(ok([])) as server, server.client(b"PUT / HTTP/1.1\r\n\r\n") as client:
        client.writer.write(bytes(8 * 2**20))
        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_an_early_last_answer_reaches_a_client_that_still_sends() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body"})

    async with served(app) as server, server.client(b"PUT / HTTP/1.1\r\nHost: a\r\n") as client:
        client.send(b"Content-Length: 8388608\r\n\r\n", bytes(8 * 2**20))
        assert (await client.rest()).startswith(b"HTTP/1.1 413 ")


async def test_after_an_early_answer_the_body_is_passed_over_and_the_next_request_read() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(app) as server, server.client(head, b"5\r\nab") as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        client.send(b"cde\r\n8\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r", b"\n", GET)
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")


# --- leaving


async def test_a_leaving_is_told_once_without_a_task_that_waits() -> None:
    told: list[str] = []
    cycles: list[Cycle] = []
    asked, over = asyncio.Event(), asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        cycles[0].on_disconnect(lambda: told.append("gone"))
        asked.set()
        await over.wait()
        cycles[0].on_disconnect(lambda: told.append("gone already"))
        await send({"type": "http.response.start", "status": 200, "headers": []})  # heard by nobody, and no error

    async with served(app, looking(cycles)) as server:
        async with server.client(GET):
            await asked.wait()
            assert told == []
        await until(lambda: told)
        over.set()
        await until(lambda: len(told) == 2)
    assert told == ["gone", "gone already"]


async def test_a_reset_is_a_leaving_too() -> None:
    told: list[str] = []
    cycles: list[Cycle] = []
    asked = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        cycles[0].on_disconnect(lambda: told.append("gone"))
        asked.set()
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        told.append("received")

    async with served(app, looking(cycles)) as server, server.client(GET) as client:
        await asked.wait()
        wire = client.writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
        await until(lambda: len(told) == 2)
    assert told == ["gone", "received"]


async def test_nobody_leaves_once_answered() -> None:
    told: list[str] = []
    cycles: list[Cycle] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        cycles[0].on_disconnect(lambda: told.append("gone"))
        await ok([])(scope, receive, send)

    async with served(app, looking(cycles)) as server:
        async with server.client(GET) as client:
            await client.head()
            assert await client.reader.readexactly(2) == b"ok"
        await asyncio.sleep(0.05)
    assert told == []


async def test_a_broken_body_is_a_leaving_and_its_sender_is_told() -> None:
    told: list[str] = []
    cycles: list[Cycle] = []
    asked = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        cycles[0].on_disconnect(lambda: told.append("gone"))
        asked.set()
        assert (await receive())["body"] == b"abc"
        assert (await receive())["type"] == "http.disconnect"
        told.append("received")

    head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with served(app, looking(cycles)) as server, server.client(head) as client:
        await asked.wait()
        await asyncio.sleep(0.05)
        client.send(b"0x3\r\n")
        answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert told == ["gone", "received"]


async def test_an_answer_under_way_is_cut_when_the_body_breaks() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(app) as server, server.client(head) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        client.send(b"3_\r\n")
        assert await client.rest() == b"3\r\nabc\r\n"


# --- stopping


async def test_stopping_closes_idle_connections_at_once_and_lets_the_others_end() -> None:
    go_on = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await go_on.wait()
        await ok([])(scope, receive, send)

    async with served(app) as server:
        slow = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"
        async with server.client(GET) as idle, server.client(slow) as busy, server.client(b"GE") as begun:
            assert await idle.head()
            await idle.reader.readexactly(2)
            server.stop.request()
            assert await idle.rest() == b""
            assert await begun.rest() == b""
            assert not server.running.done()
            go_on.set()
            assert (await busy.rest()).endswith(b"connection: close\r\n\r\nok")
