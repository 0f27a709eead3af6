"""What an existing worker is asked before it is given a create of a session that it has, or had last.

It would open a second browser for one that it runs, or that it is about to start by itself.
"""

from __future__ import annotations

import orjson

from gateway.problems import Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.workers.connections import NoAnswer, WorkerConnections
from gateway.workers.last_known import MAX_BODY
from gateway.workers.request import WorkerRequest, as_reconnect, own_get, status_path
from gateway.workers.restarts import held_back
from gateway.workers.target import Target
from sessions.registry import Registry
from sluice.http import client as http1

_WITHIN = 5.0
"""Seconds for each answer."""
_RUNS = frozenset(("qr_scanning", "authenticated", "connected"))


class AtExisting:
    def __init__(self, registry: Registry, connections: WorkerConnections) -> None:
        self._registry = registry
        self._connections = connections

    async def ask(self, target: Target, request: WorkerRequest) -> UpstreamRequest | str | Refusal:
        """What the worker is asked, so that it opens no second browser; the state in which it runs the session; or how
        the create is refused. Whether it restores is asked first: once it does not, it has begun with all, and its word
        of the session is the last one."""
        restores = await self._restores(target, request)
        status = await self._status_at(target, request)
        if status in _RUNS:
            return status
        refusal = await held_back(self._registry, request.session)
        if refusal is not None:
            return refusal
        if status is not None:
            return as_reconnect(request)
        if not restores:
            return request.outgoing
        detail = f"worker {target.worker} is being started, and has not come to session {request.session} yet"
        return Refusal(503, detail, retry_after=b"5")

    async def _restores(self, target: Target, request: WorkerRequest) -> bool:
        """Whether it has still to start sessions that Laravel has listed: until then its cleanup answers 503."""
        return await self._get(target, request, "/cleanup/stats", status=503) is not None

    async def _status_at(self, target: Target, request: WorkerRequest) -> str | None:
        """What it calls the state of the session; None: it does not run it, or does not say."""
        body = await self._get(target, request, status_path(request.session))
        try:
            status = orjson.loads(body or b"{}").get("status")
        except (orjson.JSONDecodeError, AttributeError):
            return None
        return status if isinstance(status, str) else None

    async def _get(self, target: Target, request: WorkerRequest, path: str, *, status: int = 200) -> bytes | None:
        """The body of an answer with this status; None: there is none."""
        asking = own_get(request, path)
        try:
            answer = await self._connections.ask(target, asking, request.exchange, _WITHIN, cut=False)
        except NoAnswer:
            return None
        if answer is None:
            return None
        try:
            if answer.response.status != status:
                return None
            return await answer.response.read(MAX_BODY, _WITHIN)
        except http1.UpstreamError:
            return None
        finally:
            answer.close()
