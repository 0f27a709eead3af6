"""The gateway process: the application of `gateway.asgi` on our own server, most requests without ASGI between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

from gateway import asgi
from gateway.app import Console, Observe, nothing_seen
from gateway.policies import Policies
from gateway.reload import Reloader
from sluice.http.server import certificates
from sluice.http.server.binding import Bound
from sluice.http.server.serving import serve
from sluice.observe.log import Log
from sluice.process import service
from sluice.process.loops import Stop, tune_gc

LOG = Log("gateway")


async def run(
    policies: Policies,
    bound: socket.socket | Sequence[Bound],
    stop: Stop,
    console: Console,
    observe: Observe = nothing_seen,
) -> None:
    """Serves until stopped; requests in flight are finished. An edit of the policies' file goes live meanwhile.
    `bound`: a socket alone is that of the first listener. `observe`: how it finds out what is wrong, for alerts.

    The store has to answer already: `sluice up`, or whoever runs it, has started it.
    """
    listening = [Bound(policies.listen[0], bound)] if isinstance(bound, socket.socket) else bound
    found = [one.certificate for one in listening if one.certificate is not None]
    application = asgi.create(policies, console, found, observe)
    async with application.opened() as gateway:
        tune_gc()
        listen = ", ".join(str(one.listener) for one in listening)
        LOG.info("gateway.started", listen=listen, revision=policies.revision)
        service.ready()
        beside = [asyncio.create_task(_let_go(gateway, stop)), asyncio.create_task(certificates.watch(found, stop))]
        try:
            await serve(application, listening, stop, gateway.direct, gateway.client_bounds, gateway.share_of_files)
        finally:
            for task in beside:
                task.cancel()
    LOG.info("gateway.stopped")


async def _let_go(gateway: Reloader, stop: Stop) -> None:
    await stop.wait()
    gateway.let_go()
