"""The gateway process: the application of `gateway.asgi` on our own server, most requests without ASGI between."""

from __future__ import annotations

import asyncio
import socket

from gateway import asgi
from gateway.app import Console
from gateway.policies import Policies
from gateway.reload import Reloader
from sluice.http.server.serving import serve
from sluice.observe.log import Log
from sluice.process.loops import Stop, tune_gc

LOG = Log("gateway")


async def run(policies: Policies, bound: socket.socket, stop: Stop, console: Console) -> None:
    """Serves until stopped; requests in flight are finished. An edit of the policies' file goes live meanwhile.

    The store has to answer already: `sluice up`, or whoever runs it, has started it.
    """
    application = asgi.create(policies, console)
    async with application.opened() as gateway:
        tune_gc()
        LOG.info("gateway.started", listen=f"{policies.listen.host}:{policies.listen.port}", revision=policies.revision)
        letting_go = asyncio.create_task(_let_go(gateway, stop))
        try:
            await serve(application, bound, stop, gateway.direct, gateway.client_bounds)
        finally:
            letting_go.cancel()
    LOG.info("gateway.stopped")


async def _let_go(gateway: Reloader, stop: Stop) -> None:
    await stop.wait()
    gateway.let_go()
