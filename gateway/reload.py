"""What answers requests, and how an edit of the policies replaces it.

A request works on one snapshot from start to end. An edit makes the next snapshot, which gets every request from then
on and shares with the one before all that the edit leaves as it was (`sluice.process.by_settings`). An upstream that is
replaced or removed keeps the requests that are in flight to it, and closes each connection when its request is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.client_ip import client_of
from gateway.edge import Edge
from gateway.ingest.webhooks import Ingest
from gateway.listening import find_listener
from gateway.policies import Policies
from gateway.problems import Receive, Refusal, Send, answer_refusal
from gateway.proxy.health import Checks
from gateway.proxy.shares import ShareRule
from gateway.proxy.upstream import UpstreamClient
from gateway.proxy.websocket import WebSocketUpstream
from gateway.resources import Resources
from gateway.routing import is_reserved
from relay.queue.queue import Queue
from sluice.http.fields import read_fields
from sluice.http.request_id import id_of, new_line
from sluice.http.server import (
    AsgiExchange,
    ClientBounds,
    Cycle,
    Refused,
    head_of_scope,
    metrics as server_metrics,
    target_of,
)
from sluice.observe.log import Log
from sluice.process import files
from sluice.process.by_settings import BySettings

LOG: Final = Log("gateway")
_NO_FIELDS: Final = read_fields(b"")
_MAX_REPLACED: Final = 8
"""Replaced upstreams with requests in flight: a download may take hours; so many edits later it is broken off."""


@dataclass(frozen=True, slots=True)
class ConnectedUpstream:
    """An upstream's connections for requests and for WebSockets, which share its circuit."""

    http: UpstreamClient
    websocket: WebSocketUpstream
    checks: Checks | None = None
    """Of its members."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that requests are answered with under the same policies."""

    resources: Resources
    edge: Edge
    ingest: Ingest
    reserved: Any
    """The ASGI application of the reserved paths."""
    queues: BySettings[Queue]
    upstreams: BySettings[ConnectedUpstream]
    bounds: ClientBounds
    shares: ShareRule

    @property
    def policies(self) -> Policies:
        return self.resources.policies


Make = Callable[[Policies, Snapshot | None], Snapshot]


class Reloader:
    """Each request to the newest snapshot, directly or as ASGI."""

    def __init__(self, policies: Policies, make: Make, let_go: Callable[[], None]) -> None:
        self.snapshot = make(policies, None)
        self.let_go = let_go
        """Ends what waits longer than a gateway that stops has time."""
        self._make = make
        self._replaced: list[UpstreamClient] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """As ASGI: what is reserved, WebSockets, and whatever another server has read."""
        find_listener(scope, self.snapshot.resources.policies.listeners)
        if is_reserved(target_of(scope)):
            await self.snapshot.reserved(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.snapshot.edge.websocket(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            head = head_of_scope(scope)
        except Refused as refused:
            server_metrics.request("-", refused.status, 0.0)
            id_line = new_line()
            LOG.info(
                "request.refused",
                status=refused.status,
                why=str(refused),
                client=(scope["client"] or [None])[0],
                request_id=id_of(id_line),
            )
            await answer_refusal(send, Refusal(refused.status, str(refused)), scope["headers"], id_line)
            return
        snapshot = self.snapshot
        exchange = AsgiExchange(scope, receive, send, head, snapshot.bounds)
        await exchange.run(snapshot.edge.answer(exchange))

    def direct(self, cycle: Cycle) -> Coroutine[Any, Any, None] | None:
        """What answers a request that is not for the reserved paths."""
        if is_reserved(cycle.head.target):
            return None
        return self.snapshot.edge.answer(cycle)

    def client_bounds(self) -> ClientBounds:
        """Of a connection that is made now."""
        return self.snapshot.bounds

    def share_of_files(self, peer: str) -> tuple[str, int]:
        """What a peer counts as, and how many connections it may have once there are many."""
        client = client_of(peer, _NO_FIELDS, self.snapshot.resources.policies.trust.proxies)
        first = files.first_reserved()
        rule = self.snapshot.shares
        return client.subject, first if rule.exempts(client) else rule.most(first)

    def apply(self, policies: Policies) -> None:
        """Goes over to these policies. What cannot be made raises before anything has changed."""
        after = self._make(policies, self.snapshot)
        before, self.snapshot = self.snapshot, after
        self._replaced = [client for client in self._replaced if client.connections]
        for upstream in before.upstreams.missing_in(after.upstreams).values():
            upstream.http.drain()
            self._replaced.append(upstream.http)
        while len(self._replaced) > _MAX_REPLACED:
            oldest = self._replaced.pop(0)
            LOG.warning("upstream.cut", upstream=oldest.upstream.name, connections=oldest.connections)
            closing = asyncio.create_task(oldest.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Cuts what is still in flight. Drain before."""
        clients = [upstream.http for upstream in self.snapshot.upstreams.things.values()]
        await asyncio.gather(*self._closing, *(client.close() for client in clients + self._replaced))
