"""Creates of sessions.

    reserve ──▶ Reserved: the worker is asked ──▶ 2xx: confirm, else cancel, before the client has its answer
       │                      └── its answer never came: it may have it. The place is kept until its list tells, or ends
       ├──▶ Owner: it runs, and is answered from its owner, which would start a second browser on the same login
       └──▶ no room because of places that are only held, or until one more worker is started, or the worker with its
            login away: the request is held

Of several creates of one session one is asked; the others then find that it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from gateway.problems import ClientGone, Refusal, answer_json
from gateway.proxy.upstream import UpstreamRequest
from gateway.workers.at_existing import AtExisting
from gateway.workers.connections import Answer, NoAnswer, WorkerConnections
from gateway.workers.holding import Holding
from gateway.workers.owners import Owners, target_at
from gateway.workers.reach import HOLD_AT_MOST, HOLD_FOR_NOBODY
from gateway.workers.request import WorkerRequest
from gateway.workers.target import Target
from sessions.registry import NoCapacity, Owner, OwnerAway, Purging, Registry, Reserved
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("gateway")
_KEPT = ("workspace_id", "account_id", "priority")
_MAX_KEPT = 200  # characters of each


class _NoWorkerYet(Refusal):
    """Workers are being started, which takes them a while."""


class Creates:
    shared_profiles = False
    """`sessions.shared_profiles`."""
    shield = True
    """`sessions.shields.creates`."""

    def __init__(
        self, registry: Registry, owners: Owners, connections: WorkerConnections, holding: Holding, hold: float
    ) -> None:
        self._registry = registry
        self._owners = owners
        self._connections = connections
        self._holding = holding
        self._hold = hold
        self._at_existing = AtExisting(registry, connections)
        self._going_on: dict[str, asyncio.Future[None]] = {}

    async def answer(self, request: WorkerRequest) -> int:
        """Its status. Raises Refusal, NoAnswer and ClientGone."""
        async with self._alone(request):
            began = time.monotonic()
            outcome = await self._once(request, began)
            if isinstance(outcome, int):
                return outcome
            seconds = HOLD_AT_MOST if isinstance(outcome, _NoWorkerYet) else self._hold
            with self._holding.waiting(request.session, request.size, seconds, request.exchange) as waiting:
                while await waiting.again():
                    outcome = await self._once(request, began)
                    if isinstance(outcome, int):
                        return outcome
            raise outcome

    @contextlib.asynccontextmanager
    async def _alone(self, request: WorkerRequest) -> AsyncIterator[None]:
        """One create of a session at a time. Raises Refusal and ClientGone."""
        session, until = request.session, time.monotonic() + request.timeout
        while (before := self._going_on.get(session)) is not None:
            await asyncio.wait([before], timeout=max(0.0, until - time.monotonic()))
            if request.exchange.disconnected:
                raise ClientGone
            if not before.done():
                raise Refusal(503, f"session {session} is being created by another request", retry_after=b"5")
        done = self._going_on[session] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del self._going_on[session]
            done.set_result(None)

    async def _once(self, request: WorkerRequest, began: float) -> int | Refusal:
        """The status given to the client; or how it is refused, if it cannot be done in a while. Raises Refusal.

        When the store is back after a while no worker counts as live before it has been heard of once more.
        """
        try:
            about = _about(request.fields)
            found = await self._registry.reserve(request.session, about, shared_profiles=self.shared_profiles)
        except (StoreAway, StoreRefused):
            return Refusal(503, "no session can be created right now: the store does not answer", retry_after=b"1")
        match found:
            case NoCapacity(0, _):
                self._connections.activity.found_no_room(request.session)
                if await self._more_workers_come():
                    return _NoWorkerYet(503, "no worker is registered", retry_after=b"5")
                nobody = Refusal(503, "no worker is registered", retry_after=b"5")
                if time.monotonic() - began < HOLD_FOR_NOBODY:
                    return nobody
                raise nobody
            case NoCapacity(workers, reserved):
                self._connections.activity.found_no_room(request.session)
                full = f"all {workers} workers are full (sessions.per_worker)"
                if await self._more_workers_come():
                    return _NoWorkerYet(503, full, retry_after=b"5")
                if reserved:
                    return Refusal(503, full, retry_after=b"5")
                raise Refusal(503, full, retry_after=b"5")
            case OwnerAway(worker):
                detail = f"worker {worker}, where session {request.session} is logged in, does not answer"
                return Refusal(503, detail, retry_after=b"5")
            case Purging():
                detail = (
                    f"session {request.session} was ended long ago and is being purged with its profile "
                    "(sessions.cleanup.purge); it can be created when that is done"
                )
                return Refusal(503, detail, retry_after=b"5")
            case Owner():
                return await self._at_owner(request, found)
            case Reserved():
                return await self._at_reserved(request, found)

    async def _at_reserved(self, request: WorkerRequest, place: Reserved) -> int | Refusal:
        session, fence = request.session, place.fence
        if place.joined:
            await self._cancel(session, fence)
            return Refusal(503, f"session {session} is being created by another request", retry_after=b"2")
        if request.exchange.disconnected:
            await self._cancel(session, fence)
            raise ClientGone
        target, outgoing = Target(place.worker, place.url, fence, place.existing), request.outgoing
        if place.returns and place.existing and self.shield:
            asking = await self._at_existing.ask(target, request)
            if isinstance(asking, Refusal):
                await self._cancel(session, fence)
                return asking
            if isinstance(asking, str):
                await self._confirm(session, fence)
                return await _runs(request, asking)
            outgoing = asking
        try:
            answer = await self._ask(request, target, outgoing)
        except NoAnswer as refusal:
            if not refusal.sent:
                await self._cancel(session, fence)
            raise
        if answer is None:
            await self._cancel(session, fence)
            return Refusal(503, f"worker {place.worker} cannot be reached", retry_after=b"2")
        try:
            if 200 <= answer.response.status < 300:
                await self._confirm(session, fence)
            else:
                await self._cancel(session, fence)
            return await answer.give(request.exchange)
        finally:
            answer.close()

    async def _at_owner(self, request: WorkerRequest, owner: Owner) -> int | Refusal:
        """Own workers know what to do with a session that they run."""
        target, outgoing = target_at(owner), request.outgoing
        if owner.existing and self.shield:
            asking = await self._at_existing.ask(target, request)
            if isinstance(asking, Refusal):
                return asking
            if isinstance(asking, str):
                return await _runs(request, asking)
            outgoing = asking
        answer = await self._ask(request, target, outgoing)
        if answer is None:
            self._owners.doubt(request.session)
            return Refusal(503, f"worker {owner.worker} cannot be reached", retry_after=b"2")
        try:
            return await answer.give(request.exchange)
        finally:
            answer.close()

    async def _ask(self, request: WorkerRequest, target: Target, outgoing: UpstreamRequest) -> Answer | None:
        """A client that hangs up does not stop the worker, and what comes of it is to be known."""
        return await self._connections.ask(target, outgoing, request.exchange, request.timeout, cut=False)

    async def _more_workers_come(self) -> bool:
        """`sluice up --workers 2..8` starts them when they are wanted."""
        try:
            return (await self._registry.scaling()).grows
        except (StoreAway, StoreRefused):
            return False

    async def _confirm(self, session: str, fence: int) -> None:
        """While the store is away the worker's next list, or beat, does it."""
        with contextlib.suppress(StoreAway, StoreRefused):
            if not await self._registry.confirm(session, fence):
                LOG.warning("session.accepted_too_late", session=session, fence=fence)
        self._owners.forget(session)

    async def _cancel(self, session: str, fence: int) -> None:
        """While the store is away the place ends by itself."""
        with contextlib.suppress(StoreAway, StoreRefused):
            await self._registry.cancel(session, fence)
        self._owners.forget(session)


async def _runs(request: WorkerRequest, status: str) -> int:
    await answer_json(request.exchange.send, 200, {"success": True, "session_id": request.session, "status": status})
    return 200


def _about(fields: Mapping[str, Any]) -> dict[str, str | int]:
    """What is remembered of a session from the request that creates it, as far as that is in bounds. Never its key."""
    return {name: fields[name] for name in _KEPT if _is_kept(fields.get(name))}


def _is_kept(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_KEPT
    return isinstance(value, int) and abs(value) < 2**63
