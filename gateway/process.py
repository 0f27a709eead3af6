"""The gateway process: the edge and the reserved paths behind one socket, and the watch over existing workers."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import BaseRoute

from gateway import internal
from gateway.edge import Edge
from gateway.intake import Intake
from gateway.limiter import Limiter
from gateway.owners import WorkerProxy
from gateway.problems import Receive, Send
from relay.process import open_queue
from relay.queue import Queue
from runtime.logs import Log
from runtime.loops import Stop, every
from runtime.policies import Policies, Upstream
from runtime.serving import serve
from runtime.store import Store
from sessions.existing import ExistingWorkers
from sessions.registry import Registry

LOG = Log("gateway")
_STORE_TIMEOUT = 2.0
_WORKERS = Upstream("workers", "", connect=1.0, headers=30.0, idle=60.0)
_TIDY_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What the console looks at."""

    policies: Policies
    store: Store
    registry: Registry
    queues: dict[str, Queue]


Console = Callable[[Parts], Sequence[BaseRoute]]


async def run(policies: Policies, store_url: str, bound: socket.socket, stop: Stop, console: Console) -> None:
    """Serves until stopped; requests under way are finished."""
    store = Store(store_url, timeout=_STORE_TIMEOUT)
    quick = Store(store_url, timeout=policies.store.timeout)
    registry = Registry(store, policies.sessions.lease)
    queues = {name: open_queue(store, endpoint, policies) for name, endpoint in policies.relay.endpoints.items()}
    workers = WorkerProxy(registry, _WORKERS)
    edge = Edge(policies, Limiter(quick), Intake(policies.relay, queues), registry, workers)
    inside = internal.build(policies, store, registry, queues, console(Parts(policies, store, registry, queues)))
    existing = ExistingWorkers(registry, policies.sessions.workers, policies.sessions.per_worker)
    _settle_memory()
    LOG.info("gateway.started", listen=f"{policies.listen.host}:{policies.listen.port}", revision=policies.revision)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(serve(_Front(edge, inside), bound, stop))
            group.create_task(existing.run(stop))
            group.create_task(every(_TIDY_EVERY, stop, workers.tidy))
    finally:
        await edge.close()
        await store.close()
        await quick.close()
    LOG.info("gateway.stopped")


def _settle_memory() -> None:
    """What is loaded by now stays: collections need not look at it, and need not come every few requests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


class _Front:
    """Tells the reserved paths from everything else."""

    def __init__(self, edge: Edge, inside: Any) -> None:
        self._edge = edge
        self._inside = inside

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"].startswith(internal.PREFIX) and scope["path"][len(internal.PREFIX) :][:1] in ("", "/"):
            await self._inside(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._edge.websocket(scope, receive, send)
        else:
            await self._edge(scope, receive, send)
