"""The vault's API on a real server, with what the tests need to break it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
from starlette.applications import Starlette

from sessions.profiles import api, troubles
from sessions.profiles.calls import Access
from sessions.profiles.contents import Contents, InStore
from sessions.profiles.observed import ObservedVault
from sessions.profiles.prepared import PreparedZips
from sessions.profiles.transfers import FOLDER, Transfers
from sessions.profiles.vault import Vault
from sluice.http.server.serving import listening, serve
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.sessions.profiles.calling import SIGNATURE, VaultClient
from tests.sessions.profiles.making import SECRET


@dataclass
class Served:
    client: VaultClient
    vault: Vault
    transfers: Transfers
    prepared: PreparedZips
    data: Path

    def leftovers(self) -> list[Path]:
        """Files of transfers, but for the folder of the process."""
        return [*(self.data / FOLDER).glob("*/*")]


@asynccontextmanager
async def served(
    store: Store, data: Path, contents: Contents | None = None, secrets: Sequence[bytes] = (SECRET,)
) -> AsyncIterator[Served]:
    vault = ObservedVault(store, contents or InStore(store), secrets, 3)
    transfers, prepared = Transfers(data), PreparedZips()
    app = Starlette(
        routes=api.routes(
            api.VaultApi(vault, transfers, prepared, Access(SIGNATURE), partial(troubles.note, store), 10.0)
        )
    )
    bound, stop = listening("127.0.0.1", 0), Stop()
    serving = asyncio.create_task(serve(app, bound, stop))
    address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    try:
        async with httpx2.AsyncClient(base_url=address, trust_env=False, timeout=30.0) as http:
            yield Served(VaultClient(http), vault, transfers, prepared, data)
    finally:
        stop.request()
        await serving
        prepared.close()
        transfers.close()


class Waiting:
    """Contents that let nothing be read or written until they are opened."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self.opened = asyncio.Event()
        self.opened.set()
        self.waiting = 0

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        await self._wait()
        await self._contents.put(session, of, name, sealed)

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        await self._wait()
        return await self._contents.get(session, of, name)

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        return await self._contents.missing(session, chunks)

    async def lying(self, session: str) -> dict[tuple[int, str], int]:
        return await self._contents.lying(session)

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        await self._contents.erase(session, chunks)

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            await self.opened.wait()
        finally:
            self.waiting -= 1


class BreakableStore:
    """Stands before a store, and is away from the n-th piece that a client sends until it is mended."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._server: asyncio.Server
        self._left: int | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def break_after(self, pieces: int) -> None:
        self._left = pieces

    def mend(self) -> bool:
        """Whether it had broken."""
        broken, self._left = self._left is not None and self._left <= 0, None
        return broken

    async def __aenter__(self) -> BreakableStore:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._left is not None and self._left <= 0:
            writer.close()
            return
        behind_reader, behind = await asyncio.open_unix_connection(self._path)
        self._open |= {writer, behind}
        back = asyncio.create_task(_copy(behind_reader, writer))
        with contextlib.suppress(OSError):
            while piece := await reader.read(2**20):
                if self._left is not None:
                    self._left -= 1
                    if self._left <= 0:
                        self._cut()
                        break
                behind.write(piece)
                await behind.drain()
        behind.close()
        await back
        self._open -= {writer, behind}

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(2**20):
            writer.write(piece)
            await writer.drain()
    writer.close()
