"""One connection to an upstream: the client side of a WebSocket, as the library speaks it."""

from __future__ import annotations

import asyncio
import contextlib

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from gateway.proxy.websocket import times
from gateway.proxy.websocket.end import End
from gateway.proxy.websocket.tasks import ending
from gateway.request import Pairs

_MOST = 16 * 1024 * 1024  # bytes of a message; what uvicorn takes from a client at most
_QUEUED = 2  # messages; each may have `_MOST` bytes


class Handshake(ClientProtocol):
    """Asks with the client's own target and headers instead of those made from a URI."""

    def __init__(self, uri: WebSocketURI, pairs: Pairs, subprotocols: list[Subprotocol]) -> None:
        super().__init__(uri, subprotocols=subprotocols or None, max_size=_MOST)
        self._pairs = pairs

    def connect(self) -> Request:
        made = super().connect()
        headers = Headers()
        for name, value in self._pairs:
            headers[name.decode("ascii")] = value.decode("latin-1")
        for key, text in made.headers.raw_items():
            if key != "Host":
                headers[key] = text
        return Request(made.path, headers)


class Connection(ClientConnection):
    """Leaves as soon as there is nothing more to be said, where the library waits for the other side."""

    ended_by_us: End | None = None
    """Why it was aborted while both sides were content."""

    def __init__(self, protocol: ClientProtocol) -> None:
        super().__init__(
            protocol,
            ping_interval=times.PING_EVERY,
            ping_timeout=times.PING_WITHIN,
            close_timeout=times.CLOSED_WITHIN,
            max_queue=_QUEUED,
        )

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
            self.transport.close()
        elif self.protocol.handshake_exc is not None:
            self.transport.abort()

    async def close_with(self, code: int | None, reason: str) -> None:
        """The closing handshake, also without a code. Returns when the connection is closed, in 5 seconds at most."""

        async def say() -> None:
            async with self.send_context():
                self.protocol.send_close(code, reason)

        async def discard() -> None:
            while True:  # unread messages would stop the reading, and the answer is behind them
                await self.recv(decode=False)

        async with ending(discard()):
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(times.CLOSED_WITHIN):
                    await say()

    def abort(self) -> None:
        """Whatever state it is in, even before it was connected."""
        transport: asyncio.Transport | None = getattr(self, "transport", None)
        if transport is not None:
            transport.abort()
