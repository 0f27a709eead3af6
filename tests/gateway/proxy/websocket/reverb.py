"""A WebSocket server behind a gateway, and clients before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from tests.gateway.running import Gate, gateway
from tests.sluice.http.client.upstream import Call, Play, upstream

Handle = Callable[[ServerConnection], Awaitable[None]]
Logged = Callable[[], list[dict[str, Any]]]
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
    async with asyncio.timeout(60):
        await client.wait_closed()
    return client.close_code, client.close_reason


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


async def denied(gate: Gate, *pieces: bytes, address: str = "127.0.0.1") -> tuple[bytes, bytes]:
    """Head and body of the answer to a handshake that is refused."""
    async with gate.raw(*pieces, address=address) as client:
        return await client.head(), await client.rest()


async def hold(call: Call) -> None:
    await call.gone()
