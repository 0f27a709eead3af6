"""Clients with requests under way at an upstream or a worker that answers nobody: what their shares of it are about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.gateway.running import Gate, Raw
from tests.sluice.http.client.upstream import OK, Call

ONE, OTHER, LISTED = "127.0.0.5", "127.0.0.6", "127.0.0.7"
"""Addresses of clients; policies may have the last one in a list of `clients.exempt`."""


class Holding:
    """Answers nobody until it is let go."""

    def __init__(self) -> None:
        self.held = 0
        self.lets_go = asyncio.Event()

    async def play(self, call: Call) -> None:
        while True:
            await call.head()
            self.held += 1
            await self.lets_go.wait()
            call.say(OK)


@asynccontextmanager
async def asking(gate: Gate, address: str, times: int, sent: bytes) -> AsyncIterator[list[Raw]]:
    """So many connections from this address, with a request under way on each."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(gate.raw(sent, address=address)) for _ in range(times)]


async def status_of(gate: Gate, address: str, sent: bytes) -> bytes:
    async with gate.raw(sent, address=address) as client:
        return (await client.head()).split(b" ")[1]


async def refused_one_too_many(gate: Gate, address: str, sent: bytes) -> None:
    """Its share is used, and it is told so."""
    async with gate.raw(sent, address=address) as refused:
        head = await refused.head()
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in head


async def all_answered(clients: list[Raw]) -> None:
    for client in clients:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
