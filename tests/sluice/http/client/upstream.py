"""An upstream that writes exactly the bytes it is told to, and keeps the bytes it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from sluice.http.client import Origin, Pool

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Play = Callable[["Call"], Awaitable[None]]


class Call:
    """One accepted connection. `number` counts from 1."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def until(self, end: bytes) -> bytes:
        return await self.reader.readuntil(end)

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)

    async def gone(self) -> bytes:
        """Waits for the client to close; what it sent until then."""
        return await self.reader.read()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        linger_for_nothing = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_for_nothing)
        self.writer.transport.abort()


class Upstream:
    def __init__(self, play: Play) -> None:
        self._play = play
        self._tasks: set[asyncio.Task[None]] = set()
        self.calls: list[Call] = []
        self.origin = Origin("http", "127.0.0.1", 0)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        call = Call(len(self.calls) + 1, reader, writer)
        self.calls.append(call)
        try:
            await self._play(call)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def stop(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def upstream(play: Play, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    up = Upstream(play)
    server = await asyncio.start_server(up.accept, host, 0, ssl=tls)
    up.origin = Origin("https" if tls else "http", host, server.sockets[0].getsockname()[1])
    try:
        yield up
    finally:
        server.close()
        await up.stop()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def pool_to(
    origin: Origin, *, connect: float = 2.0, limit: int = 8, wait: float = 1.0, idle: float = 50.0
) -> AsyncIterator[Pool]:
    pool = Pool(origin, connect=connect, limit=limit, wait=wait, idle=idle)
    try:
        yield pool
    finally:
        await pool.close()
        assert pool.open == 0, "a permit leaked"


def saying(*pieces: bytes, close: bool = False) -> Play:
    """Answers every request on a connection with the same bytes."""

    async def play(call: Call) -> None:
        while True:
            await call.head()
            call.say(*pieces)
            if close:
                return

    return play
