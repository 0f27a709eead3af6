"""The way to the store, which a test can cut, block and mend."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Link:
    """A TCP port that leads to the store's unix socket."""

    def __init__(self, store_url: str) -> None:
        self._path = urlsplit(store_url).path
        self._passes = asyncio.Event()
        self._passes.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.url = ""

    def block(self) -> None:
        """From now on everything is accepted and nothing answered."""
        self._passes.clear()

    def mend(self) -> None:
        self._passes.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._passes.wait()
            store = await asyncio.open_unix_connection(self._path)
            try:
                await asyncio.gather(self._pump(reader, store[1]), self._pump(store[0], writer))
            finally:
                await _closed(store[1])
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            await _closed(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
        writer.close()

    async def stop(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def link_to(store_url: str) -> AsyncIterator[Link]:
    link = Link(store_url)
    server = await asyncio.start_server(link.accept, "127.0.0.1", 0)
    link.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    try:
        yield link
    finally:
        server.close()
        await link.stop()
        await server.wait_closed()
