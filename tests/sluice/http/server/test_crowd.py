from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sluice.http.server import Cycle
from sluice.http.server.serving import listening, serve
from sluice.process import files
from sluice.process.loops import Stop
from tests.waiting import until

pytestmark = pytest.mark.anyio


async def accept(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


def direct(cycle: Cycle) -> Any:
    async def answer() -> None:
        cycle.begin(200, [], 0, more=False)

    return answer()


async def status(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    try:
        return (await reader.read())[9:12]
    finally:
        writer.close()


async def test_a_connection_counts_until_it_is_gone_also_as_a_websocket(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "are_half_used", lambda transport: True)
    port, stop = free_port(), Stop()
    bound = listening("127.0.0.1", port)
    running = asyncio.create_task(serve(accept, bound, stop, direct, share=lambda peer: ("everybody", 2)))
    try:
        assert await status(port) == b"200"
        async with connect(f"ws://127.0.0.1:{port}/", proxy=None):
            assert await status(port) == b"200"
            async with connect(f"ws://127.0.0.1:{port}/", proxy=None):
                assert await status(port) == b"503"
                with pytest.raises(InvalidStatus) as refused:
                    await connect(f"ws://127.0.0.1:{port}/", proxy=None)
                assert refused.value.response.status_code == 503

        async def is_answered() -> bool:
            return await status(port) == b"200"

        await until(is_answered)
        await until(is_answered)
    finally:
        stop.request()
        await running
