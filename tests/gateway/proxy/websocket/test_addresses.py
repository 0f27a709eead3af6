"""To which address of an upstream's name a WebSocket is opened."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.gateway.proxy.websocket.reverb import to
from tests.gateway.running import gateway
from tests.resolving import Resolve

pytestmark = pytest.mark.anyio

FIRST, SECOND = "127.0.0.21", "127.0.0.22"


@contextlib.asynccontextmanager
async def saying(address: str, port: int) -> AsyncIterator[int]:
    """A WebSocket server there that says its address; its port."""

    async def say(connection: ServerConnection) -> None:
        await connection.send(address)
        await connection.wait_closed()

    async with serve(say, address, port, ping_interval=None) as server:
        found: int = next(iter(server.sockets)).getsockname()[1]
        yield found


async def test_a_change_of_the_addresses_counts_for_the_next_websocket(
    tmp_path: Path, store_url: str, resolve: Resolve
) -> None:
    async with saying(FIRST, 0) as port, saying(SECOND, port):
        resolve(FIRST)
        async with gateway(tmp_path, store_url, f"http://laravel.test:{port}") as gate, to(gate) as before:
            assert await before.recv() == FIRST
            resolve(SECOND)
            async with to(gate) as after:
                assert await after.recv() == SECOND
            await asyncio.sleep(0)
            assert before.close_code is None, "the one before stays"
