"""Serving an ASGI application with uvicorn, side by side with other loops and stopped with them.

Its side of HTTP/1.1 is `sluice.http.server`. uvicorn's other ways that would surprise here are turned off: it believes
X-Forwarded-* on its own, adds Date and Server beside the upstream's, and catches signals and raises them again after it
has drained, which would kill the loops beside it. It listens on sockets that are bound already (`binding`), of which
each may have a certificate of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import uvicorn

from sluice.config.listening import Listener, UnixSocket
from sluice.config.model import Listen
from sluice.http.server import Bounds, ClientBounds, Direct, ServerProtocol
from sluice.http.server.binding import (
    BACKLOG,
    INHERITED as INHERITED,
    Bound,
    CannotListen as CannotListen,
    bind as bind,
    inherited as inherited,
    listening as listening,
)
from sluice.http.server.crowd import Crowd, Share, no_share
from sluice.http.server.draining import take_no_more
from sluice.http.server.exchange import LISTENER
from sluice.http.server.websocket import WebSocketProtocol
from sluice.process.loops import Stop

_DRAINED_WITHIN = 15  # seconds for the requests under way when stopped
_CLOSED_WITHIN = 5.0  # seconds for the end of TLS


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, bound: Sequence[Bound], handshake: float) -> None:
        super().__init__(config)
        self._bound = bound
        self._handshake = handshake

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own, but that each socket says to its connections which one it is, and may have TLS."""
        await self.lifespan.startup()
        self.servers = [await self._accept_on(one) for one in self._bound]
        self.started = True

    async def _accept_on(self, one: Bound) -> asyncio.Server:
        make_protocol: Any = self.config.http_protocol_class
        state = {**self.lifespan.state, LISTENER: one.listener.name}
        make = partial(make_protocol, config=self.config, server_state=self.server_state, app_state=state)
        options: dict[str, Any] = {"sock": one.socket, "backlog": BACKLOG}
        if one.certificate is not None:
            options["ssl"] = one.certificate.context
            options |= {"ssl_handshake_timeout": self._handshake, "ssl_shutdown_timeout": _CLOSED_WITHIN}
        loop = asyncio.get_running_loop()
        if one.socket.family == socket.AF_UNIX:
            return await loop.create_unix_server(make, **options)
        return await loop.create_server(make, **options)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for one in self._bound:
            one.remove_file()
        await take_no_more(sockets or [])
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(
    app: Any,
    bound: socket.socket | Sequence[Bound],
    stop: Stop,
    direct: Direct | None = None,
    bounds: Bounds = ClientBounds,
    share: Share = no_share,
) -> None:
    """Until stopped; then no more connections are taken, and requests under way get 15 seconds to end.

    `direct` is asked first to answer a request; what it leaves, and WebSockets, go to the ASGI application. `bounds`
    says how long and how much the client of each new connection may take, `share` how many of them one may have.
    """
    accepting = [_unnamed(bound)] if isinstance(bound, socket.socket) else bound
    config = uvicorn.Config(
        app,
        loop="none",
        http=partial(ServerProtocol, direct=direct, bounds=bounds, crowd=Crowd(share)),  # type: ignore[arg-type]
        ws=partial(WebSocketProtocol, limits=lambda: bounds().websocket),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_DRAINED_WITHIN,
        backlog=BACKLOG,
    )
    server = _Server(config, accepting, bounds().first_byte)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve(sockets=[one.socket for one in accepting])
    finally:
        ending.cancel()
        for one in accepting:
            one.close()


def _unnamed(bound: socket.socket) -> Bound:
    name = bound.getsockname()
    return Bound(Listener("", Listen(*name[:2]) if isinstance(name, tuple) else UnixSocket(name)), bound)
