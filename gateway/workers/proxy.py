"""Requests for sessions: to the worker that owns the session, wherever it is now."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from gateway.policies import Upstream
from gateway.problems import Refusal
from gateway.proxy.upstream import Downstream, UpstreamClient, UpstreamRequest, refusal_for
from gateway.workers.owners import Owners
from sessions.registry import NoCapacity, Owner, Registry, Unknown, Unowned
from sluice.http import client as http1
from sluice.http.server import Exchange
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("gateway")
FENCE = b"X-Sluice-Fence"
_HELD_FOR = 5.0
_HELD_AT_MOST = 1000
_LOOK_AGAIN = 0.1
_MAX_WORKERS = 256
_MISDIRECTED = 421

Find = Callable[[], Awaitable["Owner | Unowned"]]


class WorkerProxy:
    """Sends a session's requests to its owner; holds them for a bounded time while there is none."""

    def __init__(self, registry: Registry, timeouts: Upstream) -> None:
        self._registry = registry
        self._owners = Owners(registry)
        self._timeouts = timeouts
        self._workers: OrderedDict[str, UpstreamClient] = OrderedDict()
        self._held = 0

    async def to_owner(self, session: str, outgoing: UpstreamRequest, exchange: Exchange) -> int:
        """The answer's status. Raises Refusal: 404 no such session, 503 nobody runs it now; and ClientGone."""

        async def find() -> Owner | Unowned:
            found = await self._owners.find(session)
            if isinstance(found, Unknown):
                raise Refusal(404, f"there is no session {session}")
            return found

        return await self._to_whom(find, session, outgoing, exchange)

    async def to_placed(
        self, session: str, about: dict[str, object], outgoing: UpstreamRequest, exchange: Exchange
    ) -> int:
        """The same for a session that may be new: placed on the least loaded worker first. 503 when none has room."""

        async def find() -> Owner | Unowned:
            placed = await self._registry.place(session, about)
            if isinstance(placed, NoCapacity):
                if placed.workers:
                    raise Refusal(503, f"all {placed.workers} workers are full (sessions.per_worker)", retry_after=b"5")
                raise Refusal(503, "no worker is registered", retry_after=b"5")
            self._owners.remember(session, placed)
            return placed

        return await self._to_whom(find, session, outgoing, exchange)

    async def _to_whom(self, find: Find, session: str, outgoing: UpstreamRequest, exchange: Exchange) -> int:
        deadline = time.monotonic() + _HELD_FOR
        while True:
            try:
                owner = await find()
            except (StoreAway, StoreRefused):
                raise Refusal(503, "who owns the session is not known right now", retry_after=b"1") from None
            if isinstance(owner, Owner):
                status = await self._ask(owner, session, outgoing, exchange)
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

    async def _ask(self, owner: Owner, session: str, outgoing: UpstreamRequest, exchange: Exchange) -> int | None:
        """The status given to the client; None when this worker turned out not to be the one."""
        worker, client = self._client_of(owner.url), Downstream(exchange)
        fence = http1.Field(FENCE, b"%d" % owner.fence)
        try:
            response = await worker.ask(UpstreamRequest(outgoing.head, outgoing.body, (fence,)), client)
            if response.status == _MISDIRECTED:
                LOG.info("session.misdirected", session=session, worker=owner.worker, fence=owner.fence)
                return None
            if not await worker.give(response, exchange):
                LOG.warning("worker.broke_off", worker=owner.worker, session=session)
            return response.status
        except (http1.ConnectFailed, http1.ConnectTimeout):
            return None  # nothing was sent
        except http1.UpstreamError as error:
            raise refusal_for(error, f"worker {owner.worker}") from None
        finally:
            client.close()

    def _client_of(self, url: str) -> UpstreamClient:
        found = self._workers.get(url)
        if found is None:
            t = self._timeouts
            found = self._workers[url] = UpstreamClient(Upstream("workers", url, t.connect, t.headers, t.idle))
        self._workers.move_to_end(url)
        return found

    async def close_unused(self) -> None:
        """Closes the connections to workers that have not been asked for longest, when there are many."""
        while len(self._workers) > _MAX_WORKERS:
            _, oldest = self._workers.popitem(last=False)
            await oldest.close()

    async def close(self) -> None:
        for client in self._workers.values():
            await client.close()
