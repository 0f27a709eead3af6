"""A connection that is over is freed at once, and not by the garbage collector, which everybody waits for."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.server import ServerProtocol as WebSocketParser

from sluice.http.server.chunks import ChunkedBody
from sluice.http.server.cycle import Cycle
from sluice.http.server.deadline import Deadline
from sluice.http.server.flow import FlowControl
from sluice.http.server.protocol import ServerProtocol
from sluice.http.server.waiting import ClientClock
from sluice.http.server.websocket import WebSocketHandshake, WebSocketProtocol
from sluice.http.websocket.intake import Intake
from sluice.http.websocket.memory import Held
from tests.sluice.http.server.test_protocol import GET, Client, Server, served
from tests.waiting import until

pytestmark = pytest.mark.anyio

OF_CONNECTIONS = (
    *(ServerProtocol, Cycle, ClientClock, Deadline, FlowControl, ChunkedBody),
    *(WebSocketProtocol, WebSocketHandshake, WebSocketParser, Intake, Held),
)
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=[("asyncio", {}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def kept() -> Iterator[Callable[[], Counter[str]]]:
    """Without the garbage collector: what there is of connections, beyond what other tests have left."""
    gc.collect()
    gc.disable()
    before = of_connections()
    try:
        yield lambda: of_connections() - before
    finally:
        gc.enable()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers with all that was sent; a WebSocket takes messages until its end."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    while (message := await receive())["type"] == "http.request" and message["more_body"]:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def silent(client: Client) -> None:
    """It sends nothing."""


async def answered(client: Client) -> None:
    for _ in range(2):
        client.send(GET)
        await client.head()


async def answered_after_chunks(client: Client) -> None:
    client.send(CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")
    await client.head()


async def gone_in_a_head(client: Client) -> None:
    client.send(GET[:9])


async def gone_in_a_body(client: Client) -> None:
    client.send(CHUNKED, b"5\r\nhel")


async def refused(client: Client) -> None:
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    await client.head()


async def refused_as_a_websocket(client: Client) -> None:
    client.send(GET[:-2], b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await client.head()


WAYS = [silent, answered, answered_after_chunks, gone_in_a_head, gone_in_a_body, refused, refused_as_a_websocket]


@pytest.mark.parametrize("does", WAYS, ids=lambda it: it.__name__)
async def test_of_a_connection_nothing_is_left_to_be_collected(does: Any, kept: Callable[[], Counter[str]]) -> None:
    async with served(app) as server:
        for _ in range(3):
            async with server.client() as client:
                await does(client)
        server.stop.request()
        await server.running
        await until(lambda: not kept(), timeout=5, what=lambda: f"nothing to be left; there is {kept()}")


@pytest.mark.parametrize("how", ["closed", "aborted", "wrong"])
async def test_of_a_websocket_nothing_is_left_to_be_collected(how: str, kept: Callable[[], Counter[str]]) -> None:
    async with served(app) as server:
        for _ in range(3):
            async with _websocket(server) as client:
                await client.send("x" * 1000)
                if how == "aborted":
                    client.transport.abort()
                elif how == "wrong":
                    client.transport.write(b"\xff\xff\xff\xff")
        server.stop.request()
        await server.running
        await until(lambda: not kept(), timeout=5, what=lambda: f"nothing to be left; there is {kept()}")


@asynccontextmanager
async def _websocket(server: Server) -> AsyncIterator[Any]:
    async with connect(f"ws://127.0.0.1:{server.port}/", close_timeout=0.1) as client:
        yield client


def of_connections() -> Counter[str]:
    return Counter(type(one).__name__ for one in gc.get_objects() if type(one) in OF_CONNECTIONS)
