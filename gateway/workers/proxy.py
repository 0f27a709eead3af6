"""Requests for workers, by what the contract makes of them (`gateway.workers.calls`)."""

from __future__ import annotations

import asyncio

from gateway.plan import Admission, Invalid, Plan
from gateway.policies import ToWorkers, Upstream
from gateway.problems import BadPath, ClientGone, Refusal
from gateway.proxy.shares import ShareRule
from gateway.proxy.upstream import UpstreamRequest
from gateway.request import Head
from gateway.routing import segments_of
from gateway.workers.calls import STARTS, call_of
from gateway.workers.connections import WorkerConnections
from gateway.workers.creates import Creates
from gateway.workers.deletes import Deletes
from gateway.workers.fleet import Fleet
from gateway.workers.fleet_health import FleetHealth
from gateway.workers.holding import Holding
from gateway.workers.keys import Keys
from gateway.workers.last_known import LastKnown
from gateway.workers.listing import Listing
from gateway.workers.owners import Owners
from gateway.workers.reach import Reach
from gateway.workers.request import WorkerRequest
from gateway.workers.restarts import held_back
from gateway.workers.restoring import Restoring
from gateway.workers.status import StatusCalls
from gateway.workers.streams import Streams
from gateway.workers.until_restored import UntilRestored
from gateway.workers.ways import Ways
from gateway.workers.websocket import SessionWebSocket
from sessions.changes import Change, Everything
from sessions.policies import SessionsPolicy
from sessions.registry import Owner, Registry
from sluice.http.bodies import BodyBudget
from sluice.http.server import Exchange
from sluice.store.client import StoreAway, StoreRefused

_NOT_NOW = frozenset((404, 429, 502, 503, 504))
"""Refusals of ours that would tell Laravel that a session has ended."""


class WorkerProxy:
    """`bodies`: of its budget a part is held here. `rule`: of clients' shares of a worker's connections."""

    def __init__(
        self, registry: Registry, timeouts: Upstream, policy: SessionsPolicy, bodies: BodyBudget, rule: ShareRule
    ) -> None:
        self._timeouts = timeouts
        self._registry = registry
        self._owners = Owners(registry)
        self._connections = WorkerConnections(timeouts, rule)
        self._fleet = Fleet(registry)
        self._holding = Holding(bodies)
        self._last_known = LastKnown()
        self._streams = Streams()
        self._checking: asyncio.Task[None] | None = None
        self._health = FleetHealth(self._fleet, registry)
        self._reach = Reach(registry, self._owners, self._fleet, self._connections, self._holding)
        self._creates = Creates(registry, self._owners, self._connections, self._holding, self._reach.hold)
        self.activity, self.traffic = self._connections.activity, self._connections.traffic
        self.deletes = Deletes(registry, self._owners, self._reach, self._last_known)
        keys = Keys(policy.workers)
        self._listing = Listing(registry, keys)
        self._restoring = Restoring(registry, self._last_known)
        self._status = StatusCalls(registry, self._reach, self._last_known, keys, self._restoring)
        self._until_restored = UntilRestored(self._reach, self._holding, self._restoring)
        self.ways = Ways(self._reach, self._connections, self._until_restored)
        self.apply(policy)

    def apply(self, policy: SessionsPolicy) -> None:
        """What an edit changes."""
        self._fleet.apply(policy.workers)
        self._shield, self._waits = policy.shields.status, policy.shields.restored
        self._creates.shield, self._creates.shared_profiles = policy.shields.creates, policy.shared_profiles
        self._health.restore = self._restoring.restore = policy.restore
        self._status.keys = self._listing.keys = Keys(policy.workers)

    async def answer(self, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange) -> int:
        """The status given to the client. Raises Refusal and ClientGone."""
        to, head = plan.destination, outgoing.head
        assert isinstance(to, ToWorkers)
        if to.how == "list":
            return await self._listing.answer(head, exchange.send)
        if to.how == "health":
            return await self._health.answer(segments_of(head.path)[1:], exchange.send)
        call, session = call_of(head.method, head.path), plan.subject.session or ""
        request = WorkerRequest(call, session, outgoing, plan.json, plan.rules.headers_within, exchange)
        if to.how == "place":
            self.deletes.created(session)
            self._until_restored.forget(session)
            return await self._creates.answer(request)
        if to.how == "owner":
            if call == "status" and self._shield:
                return await self._status.answer(request)
            if call == "delete":
                return await self.deletes.answer(request)
        if call in STARTS and self._creates.shield and session:
            refusal = await held_back(self._registry, session)
            if refusal is not None:
                raise refusal
            if self._waits:
                await self._until_restored.begun(request)
        return await self._pass_on(request)

    async def instead(
        self, refusal: Refusal, plan: Admission | Plan | Invalid, head: Head | None, exchange: Exchange
    ) -> int | None:
        """What status and health requests get in place of a refusal of ours; None: it is given."""
        if not self._shield or refusal.status not in _NOT_NOW or head is None:
            return None
        route, session = plan.rules.route, plan.subject.session
        if route is None or not isinstance(to := route.action, ToWorkers):
            return None
        try:
            if to.how == "health":
                return await self._health.answer(segments_of(head.path)[1:], exchange.send)
            if to.how == "owner" and session and call_of(head.method, head.path) == "status":
                asking, within = UpstreamRequest(head, b""), plan.rules.headers_within
                request = WorkerRequest("status", session, asking, None, within, exchange)
                return await self._status.in_place_of(request)
        except (BadPath, ClientGone):
            return None
        return None

    def websocket(self, session: str) -> SessionWebSocket:
        """Where WebSockets of the session lead."""
        return SessionWebSocket(session, self._reach, self._streams, self._timeouts)

    async def _pass_on(self, request: WorkerRequest) -> int:
        if self._waits and request.session:
            answer = await self._until_restored.answer(request)
        else:
            answer = await self._reach.answer(request)
        try:
            if not answer.is_event_stream:
                return await answer.give(request.exchange)
            with self._streams.open(request.session, answer.worker, answer.cut):
                return await answer.give(request.exchange)
        finally:
            answer.close()

    def changed(self, what: Change | Everything) -> None:
        """Somebody else has a session, or nobody knows what has changed."""
        if isinstance(what, Change):
            self._owners.forget(what.session)
            self._until_restored.forget(what.session)
            if what.worker != what.before:  # else it is told to stop, and still answers
                fence = what.fence - 1 if what.worker else what.fence
                self._connections.lost(what.session, fence, unowned=not what.worker)
            self._holding.wake(what.session)
            self._streams.changed(what.session, what.worker)
            return
        self._owners.forget_all()
        self._until_restored.forget_all()
        self._holding.wake_all()
        if self._streams.sessions and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self._check_streams())

    async def _check_streams(self) -> None:
        """Ends those of sessions that have gone to another worker unseen."""
        for session in self._streams.sessions:
            try:
                found = await self._owners.find(session)
            except (StoreAway, StoreRefused):
                return  # when the store is back everything has changed once more
            if isinstance(found, Owner):
                self._streams.changed(session, found.worker)

    async def end_lapsed(self) -> None:
        """Ends the waiting for workers of ours whose lease has ended: one that is frozen answers nobody. The registry
        is asked only while an answer takes long."""
        if self._connections.has_long_ones():
            self._connections.lapsed(await self._fleet.lapsed())

    async def close_unused(self) -> None:
        """Closes the connections to workers that have not been asked for longest, when there are many."""
        await self._connections.close_unused()

    async def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        await self._connections.close()
        await self._health.close()
