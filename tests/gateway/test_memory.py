"""What a gateway keeps in memory does not grow with bodies or requests. `benchmarks/memory.py` does it at full size.

Measured is what Python allocates in this process, in which client, gateway and upstream run: what they hold between
them counts, what waits in the kernel's buffers does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.gateway.running import Gate, Receiver
from tests.sluice.http.client.upstream import OK, Call, saying

pytestmark = pytest.mark.anyio

MIB = 1 << 20
BODY = 64 * MIB
PIECE = 256 * 1024
MAX_HELD = 4 * MIB
"""Of a body that nobody takes, by client, gateway and upstream together."""
STALL = 0.5
"""Seconds in which nobody reads: enough for a gateway that does not hold back to have taken far more than it may."""
LENGTH = b"Content-Length: %d" % BODY
CHUNKED = b"Transfer-Encoding: chunked"
GET = b"GET /some HTTP/1.1\r\nHost: shop.example\r\n\r\n"
ANSWER = re.compile(rb"HTTP/1\.1 200 OK\r\nContent-Length: 2\r\nX-Request-Id: [0-9a-f]{24}\r\n\r\nok")


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@contextlib.contextmanager
def holding_at_most(most: int) -> Iterator[None]:
    """At no time more than this beyond what is held now."""
    gc.collect()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    yield
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < most, f"{(peak - before) / MIB:.1f} MiB were held at once"


def held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def pieces() -> Iterator[bytes]:
    """A body of which no two pieces are alike."""
    return (number.to_bytes(8, "big") * (PIECE // 8) for number in range(BODY // PIECE))


def checksum() -> int:
    crc = 0
    for piece in pieces():
        crc = zlib.crc32(piece, crc)
    return crc


async def send_body(writer: asyncio.StreamWriter, framing: bytes) -> None:
    for piece in pieces():
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if framing is CHUNKED else piece)
        await writer.drain()
    if framing is CHUNKED:
        writer.write(b"0\r\n\r\n")


async def read_body(reader: asyncio.StreamReader, framing: bytes) -> int:
    """Its checksum."""
    crc = 0
    async for piece in chunks(reader) if framing is CHUNKED else sized(reader, BODY):
        crc = zlib.crc32(piece, crc)
    return crc


async def sized(reader: asyncio.StreamReader, left: int) -> AsyncIterator[bytes]:
    while left:
        piece = await reader.read(min(left, PIECE))
        assert piece, "cut"
        left -= len(piece)
        yield piece


async def chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        async for piece in sized(reader, size):
            yield piece
        await reader.readexactly(2)
    await reader.readexactly(2)


@contextlib.asynccontextmanager
async def client(gate: Gate) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    try:
        async with asyncio.timeout(60):
            yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(gate: Gate, connection: socket.socket, times: int = 1) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        for _ in range(times):
            await loop.sock_sendall(connection, GET)
            assert ANSWER.fullmatch(await loop.sock_recv(connection, 4096))


@contextlib.asynccontextmanager
async def connections(gate: Gate, count: int) -> AsyncIterator[list[socket.socket]]:
    """Bare ones, which need hardly any memory of their own."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(count)]
        for connection in made:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", gate.port))
        yield made


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
async def test_an_upload_waits_for_an_upstream_that_does_not_read(
    gate: Gate, laravel: Receiver, framing: bytes
) -> None:
    got: list[int] = []

    async def reads_late(call: Call) -> None:
        await call.head()
        await asyncio.sleep(STALL)
        got.append(await read_body(call.reader, framing))
        call.say(OK)

    laravel.play = reads_late
    async with client(gate) as (reader, writer):
        with holding_at_most(MAX_HELD):
            writer.write(b"POST /upload HTTP/1.1\r\nHost: shop.example\r\n" + framing + b"\r\n\r\n")
            await send_body(writer, framing)
            assert ANSWER.fullmatch(await reader.readuntil(b"\r\n\r\nok"))
    assert got == [checksum()]


@pytest.mark.parametrize("framing", [LENGTH, CHUNKED])
async def test_a_download_waits_for_a_client_that_does_not_read(gate: Gate, laravel: Receiver, framing: bytes) -> None:
    async def sends_at_once(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        await send_body(call.writer, framing)
        await call.gone()

    laravel.play = sends_at_once
    async with client(gate) as (reader, writer):
        with holding_at_most(MAX_HELD):
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(STALL)
            assert await read_body(reader, framing) == checksum()


async def test_requests_leave_nothing_behind(gate: Gate, laravel: Receiver) -> None:
    laravel.play = saying(OK)  # and keeps nothing
    async with connections(gate, 1) as (connection,):
        await ask(gate, connection, 300)
        before = held()
        await ask(gate, connection, 600)
        after = held()
    assert after - before < 600 * 100, f"{(after - before) / 600:.0f} bytes are left of each"


async def test_an_idle_connection_needs_little(gate: Gate, laravel: Receiver) -> None:
    laravel.play = saying(OK)
    async with connections(gate, 20) as first:
        for connection in first:
            await ask(gate, connection)
        before = held()
        async with connections(gate, 200) as made:
            for connection in made:
                await ask(gate, connection)
            after = held()
    assert after - before < 200 * 16 * 1024, f"{(after - before) / 200:.0f} bytes for each"
