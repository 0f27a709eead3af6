"""What is made of the policies, and how an edit's takes over from the one before it.

A request works on one generation from start to end. An edit makes a new one, which gets every request from then on; the
one before it is closed, and with it its connections, when the last of its requests is over.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from gateway import reserved as internal
from gateway.edge import Edge
from gateway.owners import WorkerProxy
from gateway.policies import Policies
from gateway.problems import Receive, Send
from relay.inflow import Inflow
from relay.queue.queue import Queue
from sessions.registry import Registry
from sluice.config.live import LivePolicies
from sluice.http.server import Cycle
from sluice.observe.log import Log
from sluice.store.client import Store

LOG = Log("gateway")
_MAX_RETIRED = 8  # a download may take hours; so many edits later it is cut


@dataclass(frozen=True, slots=True)
class Resources:
    """What the console looks at."""

    policies: Policies
    store: Store
    registry: Registry
    queues: Mapping[str, Queue]
    live: LivePolicies[Policies]
    removed: Mapping[str, Queue]
    """Of the endpoints that edits have taken out of the policies since this process began."""
    inflows: defaultdict[str, Inflow] = field(default_factory=lambda: defaultdict(Inflow))
    """By endpoint; the same through all edits."""


class Snapshot:
    """Its edge, which closes what it was given, and the application of the reserved paths."""

    __slots__ = ("edge", "in_flight", "inside", "over", "parts", "retired", "workers")

    def __init__(self, parts: Resources, edge: Edge, inside: Any, workers: WorkerProxy) -> None:
        self.parts = parts
        self.edge = edge
        self.inside = inside
        self.workers = workers
        self.in_flight = 0
        self.retired = False
        self.over = asyncio.Event()
        """Nothing is under way any more, and nothing will come."""


Make = Callable[[Policies, Resources | None], Snapshot]


class Reloader:
    """Each request to the newest generation: directly to its edge, or as ASGI what is reserved, and WebSockets."""

    def __init__(self, policies: Policies, make: Make) -> None:
        self._make = make
        self._now = make(policies, None)
        self._retired: dict[Snapshot, asyncio.Task[None]] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        now = self._now
        now.in_flight += 1
        try:
            if scope["type"] == "http" or internal.is_reserved(scope["raw_path"]):
                await now.inside(scope, receive, send)
            else:
                await now.edge.websocket(scope, receive, send)
        finally:
            now.in_flight -= 1
            if now.retired and not now.in_flight:
                now.over.set()

    def direct(self, cycle: Cycle) -> Coroutine[Any, Any, None] | None:
        """What answers a request that is not for the reserved paths."""
        if internal.is_reserved(cycle.head.target):
            return None
        return self._answer(cycle)

    async def _answer(self, cycle: Cycle) -> None:
        now = self._now
        now.in_flight += 1
        try:
            await now.edge.answer(cycle)
        finally:
            now.in_flight -= 1
            if now.retired and not now.in_flight:
                now.over.set()

    def apply(self, policies: Policies) -> None:
        """Goes over to these policies. What cannot be made raises before anything has changed."""
        made = self._make(policies, self._now.parts)
        before, self._now = self._now, made
        before.retired = True
        if not before.in_flight:
            before.over.set()
        self._retired[before] = asyncio.create_task(self._close(before))
        if len(self._retired) > _MAX_RETIRED:
            oldest = next(iter(self._retired))
            LOG.warning("generation.cut", revision=oldest.parts.policies.revision, in_flight=oldest.in_flight)
            oldest.over.set()

    @property
    def parts(self) -> Resources:
        """Of the newest generation."""
        return self._now.parts

    async def tidy(self) -> None:
        await self._now.workers.tidy()

    async def close(self) -> None:
        """Cuts what is still under way. Drain before."""
        for generation in self._retired:
            generation.over.set()
        await asyncio.gather(*self._retired.values(), self._now.edge.close())

    async def _close(self, generation: Snapshot) -> None:
        await generation.over.wait()
        await generation.edge.close()
        del self._retired[generation]
