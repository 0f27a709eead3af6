"""The gateway process: the edge and the reserved paths behind one socket, and the watch over existing workers."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from starlette.routing import BaseRoute

from gateway import metrics
from gateway import reserved as internal
from gateway.edge import Edge
from gateway.ingest.webhooks import Ingest
from gateway.limits import peers
from gateway.limits.limiter import Limiter
from gateway.owners import WorkerProxy
from gateway.policies import Policies, Upstream, edits
from gateway.proxy.circuit import UpstreamCircuits
from gateway.reload import Reloader, Resources, Snapshot
from relay import inflow
from relay.inflow import Inflow
from relay.process import open_queue, settings_of
from relay.queue.inbox import Inbox
from relay.queue.queue import Queue
from sessions.existing import ExistingWorkers
from sessions.registry import Registry
from sluice.http.server.serving import serve
from sluice.observe.log import Log
from sluice.process.loops import Stop, every, tune_gc
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("gateway")
_STORE_TIMEOUT = 2.0
_WORKERS = Upstream("workers", "", connect=1.0, headers=30.0, idle=60.0)
_TIDY_EVERY = 60.0

Console = Callable[[Resources], Sequence[BaseRoute]]


async def run(policies: Policies, store_url: str, bound: socket.socket, stop: Stop, console: Console) -> None:
    """Serves until stopped; requests under way are finished. An edit of the policies' file goes live meanwhile."""
    store = Store(store_url, timeout=_STORE_TIMEOUT)
    quick = Store(store_url, timeout=policies.store.timeout)
    registry, limiter, live = Registry(store, policies.sessions.lease), Limiter(quick), edits.live(policies)
    alone = Store(store_url, timeout=_STORE_TIMEOUT)  # what waits for a replica keeps nobody else waiting
    inbox = Inbox(alone, replicas=1 if policies.store.promise == "replica" else 0)
    inflows: defaultdict[str, Inflow] = defaultdict(Inflow)
    guards, name = UpstreamCircuits(metrics.upstream_circuit), f"{socket.gethostname()}:{os.getpid()}"

    def make(policies: Policies, before: Resources | None) -> Snapshot:
        queues = _queues(store, policies, before)
        removed = {**before.removed, **before.queues} if before else {}
        removed = {name: queue for name, queue in removed.items() if name not in queues}
        parts = Resources(policies, store, registry, queues, live, removed, inflows)
        workers = WorkerProxy(registry, _WORKERS)
        intake = Ingest(policies, queues, inbox)
        edge = Edge(policies, limiter, intake, registry, workers, guards)
        inside = internal.build(policies, store, registry, queues, intake, console(parts))
        return Snapshot(parts, edge, inside, workers)

    front = Reloader(policies, make)
    tune_gc()
    LOG.info("gateway.started", listen=f"{policies.listen.host}:{policies.listen.port}", revision=policies.revision)
    try:
        async with asyncio.TaskGroup() as group:
            watch = _Watch(registry, group)

            def apply(policies: Policies) -> None:
                front.apply(policies)
                limiter.forget()
                watch.apply(policies)

            watch.apply(policies)
            group.create_task(serve(front, bound, stop, front.direct))
            group.create_task(every(_TIDY_EVERY, stop, front.tidy))
            group.create_task(every(peers.EVERY, stop, lambda: peers.turn(quick, name, limiter)))
            group.create_task(every(inflow.EVERY, stop, lambda: _note_inflows(front.parts)))
            group.create_task(live.watch(stop, apply))
            await stop.wait()
            watch.stop.request()
    finally:
        await front.close()
        await store.close()
        await quick.close()
        await alone.close()
    LOG.info("gateway.stopped")


def _queues(store: Store, policies: Policies, before: Resources | None) -> dict[str, Queue]:
    """Those of untouched endpoints go on: what waits in them for the store keeps its order."""
    queues: dict[str, Queue] = {}
    for name, endpoint in policies.relay.endpoints.items():
        old = before.policies.relay.endpoints.get(name) if before else None
        if before and old and settings_of(before.policies, old) == settings_of(policies, endpoint):
            queues[name] = before.queues[name]
        else:
            queues[name] = open_queue(store, endpoint, policies)
    return queues


async def _note_inflows(parts: Resources) -> None:
    """What the store does not tell right now is left out."""
    for name, queue in parts.queues.items():
        try:
            counts = await queue.counts()
        except (StoreAway, StoreRefused):
            return
        parts.inflows[name].note(time.monotonic(), counts.accepted - counts.replaced - counts.expired)


class _Watch:
    """Over existing workers: a new one, in `group`, whenever the policies name others."""

    def __init__(self, registry: Registry, group: asyncio.TaskGroup) -> None:
        self.stop = Stop()
        self._registry = registry
        self._group = group
        self._settings: object = None

    def apply(self, policies: Policies) -> None:
        sessions = policies.sessions
        settings = (sessions.workers, sessions.per_worker)
        if settings == self._settings:
            return
        self._settings = settings
        self.stop.request()
        self.stop = Stop()
        existing = ExistingWorkers(self._registry, sessions.workers, sessions.per_worker)
        self._group.create_task(existing.run(self.stop))
