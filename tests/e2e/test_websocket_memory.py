"""Compressed messages of some KiB that become many MiB, for an upstream that takes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from sluice.observe import processes
from tests.e2e.deployment import deployment

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HANDSHAKE = (
    b"GET /app HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
CLIENTS = 20
MAY_TAKE = 250 * 2**20
"""Bytes, beyond what the gateway has at its start; without a bound it takes five times as much."""


def zeros(size: int) -> bytes:
    """A compressed message."""
    deflate = zlib.compressobj(wbits=-12)
    made = bytearray(
        Frame(Opcode.BINARY, (deflate.compress(bytes(size)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]).serialize(
            mask=True
        )
    )
    made[0] |= 0x40
    return bytes(made)


async def test_large_messages_that_nobody_takes_have_bounded_memory(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    ports, go = (free_port(), free_port()), asyncio.Event()

    async def stuck(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await go.wait()
        connection.transport.abort()

    async with serve(stuck, "127.0.0.1", ports[1], ping_interval=None), deployment(short_folder, ports) as sluice:
        await sluice.start_up()

        def memory() -> int:
            usage = processes.usage(sluice.family()[-1])
            assert usage is not None
            return usage.memory

        before, sent = memory(), zeros(16 * 2**20 - 1) * 10
        async with contextlib.AsyncExitStack() as clients:
            for _ in range(CLIENTS):
                reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
                clients.callback(writer.close)
                writer.write(HANDSHAKE)
                await reader.readuntil(b"\r\n\r\n")
                writer.write(sent)
            for _ in range(10):
                await asyncio.sleep(0.5)
                assert memory() - before < MAY_TAKE
            go.set()
