"""Serving an ASGI application with uvicorn, side by side with other loops and stopped with them.

Its side of HTTP/1.1 is `sluice.http.server`. uvicorn's other ways that would surprise here are turned off: it believes
X-Forwarded-* on its own, adds Date and Server beside the upstream's, and catches signals and raises them again after it
has drained, which would kill the loops beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Generator
from functools import partial
from typing import Any

import uvicorn

from sluice.http.server import Bounds, ClientBounds, Direct, ServerProtocol
from sluice.http.server.draining import take_again, take_no_more
from sluice.http.server.websocket import WebSocketProtocol
from sluice.process.loops import Stop

INHERITED = "SLUICE_LISTENING"
_BACKLOG = 2048
_DRAINED_WITHIN = 15  # seconds for the requests under way when stopped


class CannotListen(Exception):
    """The address cannot be bound; the message says why and what to do."""


def listening(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that listens already, so that a taken port is found out before anything else starts.

    `shared`: other processes of this user may listen there too, if they also share; the kernel spreads the connections.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, port))
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise CannotListen(
            f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}; "
            "stop what listens there, or choose another address"
        ) from None
    bound.setblocking(False)
    return bound


def inherited() -> socket.socket | None:
    """The socket on which whoever started us listens already; it goes on listening when we end."""
    number = os.environ.pop(INHERITED, None)
    if not number:
        return None
    bound = socket.socket(fileno=int(number))
    take_again(bound)
    return bound


class _Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await take_no_more(sockets or [])
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(
    app: Any, bound: socket.socket, stop: Stop, direct: Direct | None = None, bounds: Bounds = ClientBounds
) -> None:
    """Until stopped; then no more connections are taken, and requests under way get 15 seconds to end.

    `direct` is asked first to answer a request; what it leaves, and WebSockets, go to the ASGI application. `bounds`
    says how long and how much the client of each new connection may take.
    """
    config = uvicorn.Config(
        app,
        loop="none",
        http=partial(ServerProtocol, direct=direct, bounds=bounds),  # type: ignore[arg-type]
        ws=partial(WebSocketProtocol, limits=lambda: bounds().websocket),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_DRAINED_WITHIN,
        backlog=_BACKLOG,
    )
    server = _Server(config)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve(sockets=[bound])
    finally:
        ending.cancel()
        bound.close()
