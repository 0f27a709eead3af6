"""An answer that is kept until somebody can take it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from sluice.http.fields import pair_of
from sluice.http.server.exchange import Exchange
from sluice.http.server.head import RequestHead


class RecordedExchange(Exchange):
    """Of a request whose client nobody waits for: it never goes away, and whatever is answered is kept, as it came.

    `most`: bytes of a body that are kept; one that is longer is not `complete`.
    """

    def __init__(self, head: RequestHead, most: int) -> None:
        self.head = head
        self.status = 0
        self.lines: list[bytes] = []
        self.length: int | None = None
        self.complete = False
        self._most = most
        self._size = 0
        self._pieces: list[bytes] = []

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)

    @property
    def client(self) -> tuple[str, int] | None:
        return None

    @property
    def server(self) -> tuple[str, int | None] | None:
        return None

    @property
    def scheme(self) -> str:
        return "http"

    async def receive(self) -> Any:
        """Its body has been read already; nothing more comes."""
        await asyncio.get_running_loop().create_future()

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        """That never happens."""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            lines = [b"%b: %b\r\n" % (name, value) for name, value in message.get("headers", ())]
            lengths = [int(value) for name, value in map(pair_of, lines) if name == b"content-length"]
            self.begin(message["status"], lines, lengths[0] if lengths else None)
        else:
            self.write(message.get("body", b""), more=message.get("more_body", False))

    def begin(
        self, status: int, lines: Sequence[bytes], length: int | None, body: bytes = b"", *, more: bool = True
    ) -> None:
        self.status, self.lines, self.length = status, [*lines], length
        self.write(body, more=more)

    def write(self, body: bytes, *, more: bool) -> None:
        self._size += len(body)
        if self._size > self._most:
            self._pieces.clear()
            return
        self._pieces.append(body)
        self.complete = not more

    @property
    def blocked(self) -> bool:
        return False

    async def drain(self) -> None:
        """Nothing waits here."""

    def give(self, exchange: Exchange) -> None:
        """The same answer to a client, at once."""
        exchange.upstream, exchange.upstream_seconds = self.upstream, self.upstream_seconds
        exchange.why = self.why
        exchange.begin(self.status, self.lines, self.length, self.body, more=False)
