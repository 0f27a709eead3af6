"""Requests for sessions: to the worker that owns the session, wherever it is now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from gateway.plan import Plan
from gateway.policies import ToWorkers, Upstream
from gateway.problems import Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.request import Json
from gateway.routing import segments_of
from gateway.workers.connections import Answer, Target, WorkerConnections
from gateway.workers.fleet import Fleet
from gateway.workers.fleet_health import FleetHealth
from gateway.workers.listing import list_sessions
from gateway.workers.owners import Owners
from sessions.registry import NoCapacity, Owner, OwnerAway, Registry, Unknown, Unowned
from sluice.http.server import Exchange
from sluice.store.client import StoreAway, StoreRefused

_HELD_FOR = 5.0
_HELD_AT_MOST = 1000
_LOOK_AGAIN = 0.1

Find = Callable[[], Awaitable["Owner | Unowned"]]


class WorkerProxy:
    """Sends a session's requests to its owner; holds them for a bounded time while there is none."""

    def __init__(self, registry: Registry, timeouts: Upstream) -> None:
        self._registry = registry
        self._owners = Owners(registry)
        self._connections = WorkerConnections(timeouts)
        self._fleet = Fleet(registry)
        self._health = FleetHealth(self._fleet, registry)
        self._held = 0

    async def answer(self, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange) -> int:
        """The status given to the client. Raises Refusal and ClientGone."""
        to, session = plan.destination, plan.subject.session or ""
        assert isinstance(to, ToWorkers)
        match to.how:
            case "list":
                return await list_sessions(self._registry, exchange.send)
            case "health":
                return await self._health.answer(segments_of(outgoing.head.path)[1:], exchange.send)
            case "any":
                return await self._to_any(outgoing, exchange, to.timeout)
            case "owner":
                return await self.to_owner(session, outgoing, exchange, to.timeout)
            case "place":
                return await self.to_placed(session, _about(plan.json), outgoing, exchange, to.timeout)

    async def _to_any(self, outgoing: UpstreamRequest, exchange: Exchange, timeout: float) -> int:
        tried: list[str] = []
        while True:
            try:
                target = await self._fleet.any_but(tried)
            except (StoreAway, StoreRefused):
                target = None
            if target is None:
                raise Refusal(503, "no worker answers right now", retry_after=b"5")
            answer = await self._connections.ask(target, outgoing, exchange, timeout)
            if answer is not None:
                return await _given(answer, exchange)
            tried.append(target.worker)

    async def to_owner(self, session: str, outgoing: UpstreamRequest, exchange: Exchange, timeout: float) -> int:
        """The answer's status. Raises Refusal: 404 no such session, 503 nobody runs it now; and ClientGone."""

        async def find() -> Owner | Unowned:
            found = await self._owners.find(session)
            if isinstance(found, Unknown):
                raise Refusal(404, f"there is no session {session}")
            return found

        return await self._to_whom(find, session, outgoing, exchange, timeout)

    async def to_placed(
        self, session: str, about: dict[str, object], outgoing: UpstreamRequest, exchange: Exchange, timeout: float
    ) -> int:
        """The same for a session that may be new: placed on the least loaded worker first. 503 when none has room."""

        async def find() -> Owner | Unowned:
            placed = await self._registry.place(session, about)
            if isinstance(placed, NoCapacity):
                if placed.workers:
                    raise Refusal(503, f"all {placed.workers} workers are full (sessions.per_worker)", retry_after=b"5")
                raise Refusal(503, "no worker is registered", retry_after=b"5")
            if isinstance(placed, OwnerAway):
                raise Refusal(503, f"worker {placed.worker}, which has its login, does not answer", retry_after=b"5")
            self._owners.remember(session, placed, time.monotonic())
            return placed

        return await self._to_whom(find, session, outgoing, exchange, timeout)

    async def _to_whom(
        self, find: Find, session: str, outgoing: UpstreamRequest, exchange: Exchange, timeout: float
    ) -> int:
        deadline = time.monotonic() + _HELD_FOR
        while True:
            try:
                owner = await find()
            except (StoreAway, StoreRefused):
                raise Refusal(503, "who owns the session is not known right now", retry_after=b"1") from None
            if isinstance(owner, Owner):
                status = await self._ask(owner, outgoing, exchange, timeout)
                if status is not None:
                    return status
                self._owners.forget(session)
            await self._hold(session, deadline)

    async def _hold(self, session: str, deadline: float) -> None:
        if time.monotonic() >= deadline or self._held >= _HELD_AT_MOST:
            raise Refusal(503, f"no worker runs session {session} right now", retry_after=b"2")
        self._held += 1
        try:
            await asyncio.sleep(_LOOK_AGAIN)
        finally:
            self._held -= 1

    async def _ask(self, owner: Owner, outgoing: UpstreamRequest, exchange: Exchange, timeout: float) -> int | None:
        """The status given to the client; None when this worker turned out not to be the one."""
        target = Target(owner.worker, owner.url, owner.fence)
        answer = await self._connections.ask(target, outgoing, exchange, timeout)
        return None if answer is None else await _given(answer, exchange)

    async def close_unused(self) -> None:
        """Closes the connections to workers that have not been asked for longest, when there are many."""
        await self._connections.close_unused()

    async def close(self) -> None:
        await self._connections.close()
        await self._health.close()


async def _given(answer: Answer, exchange: Exchange) -> int:
    try:
        return await answer.give(exchange)
    finally:
        answer.close()


def _about(json: Json | None) -> dict[str, object]:
    """What is remembered of a session from the request that creates it. Never its api_key."""
    value = json.value if json else None
    wanted = ("workspace_id", "account_id", "priority")
    return {name: value[name] for name in wanted if name in value} if isinstance(value, Mapping) else {}
