"""The gateway on our own server, and as an ASGI application on others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import hypercorn
import uvicorn
from hypercorn.asyncio import serve as serve_with_hypercorn

from gateway import asgi, process
from gateway.policies import Policies
from sluice.process.loops import Stop

Serve = Callable[[Policies, socket.socket, Stop], Awaitable[None]]


async def _sluice(policies: Policies, bound: socket.socket, stop: Stop) -> None:
    await process.run(policies, bound, stop, asgi.no_console)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _uvicorn(policies: Policies, bound: socket.socket, stop: Stop) -> None:
    config = uvicorn.Config(
        asgi.create(policies), proxy_headers=False, server_header=False, date_header=False, log_config=None
    )
    server = _Uvicorn(config)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True

    ending = asyncio.create_task(end())
    await server.serve(sockets=[bound])
    ending.cancel()


async def _hypercorn(policies: Policies, bound: socket.socket, stop: Stop) -> None:
    config = hypercorn.Config()
    config.bind = [f"fd://{bound.detach()}"]
    config.include_server_header = config.include_date_header = False
    config.loglevel = "WARNING"
    application: Any = asgi.create(policies)
    await serve_with_hypercorn(application, config, shutdown_trigger=stop.wait)


SERVERS: dict[str, Serve] = {"sluice": _sluice, "uvicorn": _uvicorn, "hypercorn": _hypercorn}
