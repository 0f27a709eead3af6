"""Clients that take all the files that a gateway may have open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from sluice.cli import status
from sluice.observe import processes
from tests.e2e.deployment import Deployment, deployment
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MOST = 200
"""Files that each process may have open."""


@pytest.fixture
async def sluice(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[Deployment]:
    """Not started yet; its Laravel answers everything, and echoes on WebSockets."""
    ports = free_port(), free_port()

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        return None if "Upgrade" in request.headers else connection.respond(200, "well")

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with (
        serve(echo, "127.0.0.1", ports[1], process_request=answer, ping_interval=None),
        deployment(short_folder, ports) as deployed,
    ):
        deployed.under = "prlimit", f"--nofile=100:{MOST}"
        yield deployed


def port_of(sluice: Deployment) -> int:
    return int(sluice.gateway.rpartition(":")[2])


async def ask(sluice: Deployment, path: str = "/x") -> int:
    """The status of an answer on a new connection."""
    async with httpx2.AsyncClient(trust_env=False, verify=False, timeout=10) as client:
        return (await client.get(sluice.gateway + path)).status_code


async def answers(sluice: Deployment, status: int) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return await ask(sluice) == status
    return False


async def test_silent_connections_leave_files_for_upstreams_and_are_told(sluice: Deployment) -> None:
    await sluice.start_up()
    usages = [processes.usage(pid) for pid in sluice.family()]
    assert [usage and usage.max_files for usage in usages] == [MOST] * 4, "of up, store, relay and gateway"
    async with contextlib.AsyncExitStack() as held, httpx2.AsyncClient(trust_env=False, verify=False) as early:
        assert (await early.get(sluice.gateway + "/x")).status_code == 200
        for _ in range(MOST):
            _, writer = await asyncio.open_connection("127.0.0.1", port_of(sluice))
            held.callback(writer.close)
        await until(lambda: answers(sluice, 503))
        assert (await early.get(sluice.gateway + "/x")).status_code == 200, "there is a file for the upstream"
        assert await ask(sluice, "/_sluice/healthz") == 200
        seen = await status.fetch(sluice.policies)
        assert any("files open, one for each connection" in one for one in seen.messages), seen.messages
    await until(lambda: answers(sluice, 200))


async def test_one_address_has_its_share_of_the_files_and_keeps_nobody_else_out(sluice: Deployment) -> None:
    await sluice.start_up()
    async with contextlib.AsyncExitStack() as held:
        for _ in range(MOST):
            with contextlib.suppress(ConnectionError):
                await held.enter_async_context(stranger(sluice))
        assert await ask(sluice) == 200
        await until(lambda: answered(sluice, b"HTTP/1.1 503 "))
    await until(lambda: answered(sluice, b"HTTP/1.1 200 "))


@contextlib.asynccontextmanager
async def stranger(sluice: Deployment, sent: bytes = b"") -> AsyncIterator[asyncio.StreamReader]:
    """A connection from an address that is on no list."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(sluice), local_addr=("127.0.0.9", 0))
    writer.write(sent)
    try:
        yield reader
    finally:
        writer.close()


async def answered(sluice: Deployment, start: bytes) -> bool:
    with contextlib.suppress(ConnectionError):
        async with stranger(sluice, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n") as reader:
            return (await reader.readline()).startswith(start)
    return False


async def test_websockets_count_twice_and_leave_files_for_all_else(sluice: Deployment) -> None:
    await sluice.start_up()
    opened: list[ClientConnection] = []
    url = sluice.gateway.replace("http", "ws") + "/app"
    async with httpx2.AsyncClient(trust_env=False, verify=False) as early:
        assert (await early.get(sluice.gateway + "/x")).status_code == 200
        with contextlib.suppress(InvalidStatus):
            while len(opened) < MOST:
                opened += [await connect(url, proxy=None, ping_interval=None)]
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None, ping_interval=None)
        assert refused.value.response.status_code == 503
        assert (await early.get(sluice.gateway + "/x")).status_code == 200, "not 502"
        for client in opened:
            await client.send("still there")
            assert await client.recv() == "still there"
    for client in opened:
        client.transport.abort()
