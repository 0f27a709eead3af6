"""WebSockets to an upstream with several members, or whose name has several addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import InvalidStatus

from tests.gateway.proxy.test_balancing import POLICIES
from tests.gateway.running import Gate, gateway
from tests.resolving import Resolve, hanging
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Named:
    """A WebSocket server that says its name first."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.open = 0
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(self._greet, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _greet(self, connection: ServerConnection) -> None:
        self.open += 1
        await connection.send(self.name)
        await connection.wait_closed()
        self.open -= 1


@pytest.fixture
async def pair(free_port: Callable[[], int]) -> AsyncIterator[tuple[Named, Named]]:
    both = Named("a", free_port()), Named("b", free_port())
    for one in both:
        await one.start()
    yield both
    for one in both:
        await one.stop()


@asynccontextmanager
async def gate_to(folder: Path, store_url: str, pair: tuple[Named, Named]) -> AsyncIterator[Gate]:
    urls = ", ".join(f"http://127.0.0.1:{one.port}" for one in pair)
    async with gateway(folder, store_url, f"{{urls: [{urls}]}}", text=POLICIES) as gate:
        yield gate


def opening(gate: Gate) -> connect:
    return connect(f"ws://127.0.0.1:{gate.port}/app", proxy=None)


async def test_members_share_the_websockets_that_are_open(
    tmp_path: Path, store_url: str, pair: tuple[Named, Named]
) -> None:
    async with gate_to(tmp_path, store_url, pair) as gate:
        async with AsyncExitStack() as stack:
            for _ in range(6):
                await (await stack.enter_async_context(opening(gate))).recv()
            assert [one.open for one in pair] == [3, 3]
        await until(lambda: [one.open for one in pair] == [0, 0])


async def test_a_member_whose_websockets_have_ended_gets_the_next_ones(
    tmp_path: Path, store_url: str, pair: tuple[Named, Named]
) -> None:
    async with gate_to(tmp_path, store_url, pair) as gate, AsyncExitStack() as stack:
        sockets: dict[str, list[ClientConnection]] = {"a": [], "b": []}
        for _ in range(6):
            one = await stack.enter_async_context(opening(gate))
            sockets[str(await one.recv())].append(one)
        for one in sockets["b"]:
            await one.close()
        await until(lambda: pair[1].open == 0)

        async def goes_to_b() -> bool:
            return await (await stack.enter_async_context(opening(gate))).recv() == "b"

        for _ in range(3):
            await until(goes_to_b)


async def test_a_member_that_cannot_be_connected_to_is_passed_over_and_found_again(
    tmp_path: Path, store_url: str, pair: tuple[Named, Named]
) -> None:
    async with gate_to(tmp_path, store_url, pair) as gate:
        await pair[0].stop()
        for _ in range(4):
            async with opening(gate) as socket:
                assert await socket.recv() == "b"
        await pair[0].start()

        async def goes_to_a() -> bool:
            async with opening(gate) as socket:
                return await socket.recv() == "a"

        await until(goes_to_a)


async def test_where_no_member_can_be_connected_to_it_is_502(
    tmp_path: Path, store_url: str, pair: tuple[Named, Named]
) -> None:
    async with gate_to(tmp_path, store_url, pair) as gate:
        await asyncio.gather(*(one.stop() for one in pair))
        with pytest.raises(InvalidStatus) as refused:
            async with opening(gate):
                pass
        assert refused.value.response.status_code == 502


async def test_where_the_first_address_of_a_name_hangs_the_next_is_connected_to(
    tmp_path: Path, store_url: str, resolve: Resolve, pair: tuple[Named, Named]
) -> None:
    port = pair[0].port
    with hanging("127.0.0.3", port):
        async with gateway(tmp_path, store_url, f"{{url: http://app.test:{port}}}", text=POLICIES) as gate:
            resolve("127.0.0.3", "127.0.0.1")
            async with opening(gate) as socket:
                assert await socket.recv() == "a"
