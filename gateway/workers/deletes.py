"""Deletions of sessions: one that a worker has answered with a 2xx is final before the client has its answer."""

from __future__ import annotations

import asyncio
import time

from gateway.problems import Refusal
from gateway.workers.last_known import LastKnown
from gateway.workers.owners import Owners
from gateway.workers.reach import Reach
from gateway.workers.request import WorkerRequest
from sessions.registry import Registry
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("gateway")
EVERY = 1.0
"""Seconds between two tries to record what could not be recorded."""
_HOLD = 5.0
_AGAIN = 0.2
_MAX_PENDING = 10_000


class Deletes:
    """While the store is away an answer is held for five seconds. Then it is a 503, as a 2xx would not be final; the
    deletion is recorded when the store is back, as Laravel does not repeat it."""

    def __init__(self, registry: Registry, owners: Owners, reach: Reach, last_known: LastKnown) -> None:
        self._registry = registry
        self._owners = owners
        self._reach = reach
        self._last_known = last_known
        self._pending: dict[str, None] = {}

    async def answer(self, request: WorkerRequest) -> int:
        """Its status. Raises Refusal, NoAnswer and ClientGone."""
        answer = await self._reach.answer(request, cut=False)
        try:
            if 200 <= answer.response.status < 300:
                await self._forget(request.session)
            return await answer.give(request.exchange)
        finally:
            answer.close()

    def created(self, session: str) -> None:
        """It is wanted again."""
        self._pending.pop(session, None)

    async def run_once(self) -> None:
        """Records what could not be recorded before."""
        for session in [*self._pending]:
            try:
                await self._registry.forget(session)
            except (StoreAway, StoreRefused):
                return
            self._pending.pop(session, None)
            LOG.info("session.forgotten_late", session=session)

    async def _forget(self, session: str) -> None:
        until = time.monotonic() + _HOLD
        while True:
            self._owners.forget(session)
            try:
                await self._registry.forget(session)
                self._last_known.forget(session)
                return
            except (StoreAway, StoreRefused):
                if time.monotonic() >= until:
                    break
            await asyncio.sleep(_AGAIN)
        self._pending[session] = None
        if len(self._pending) > _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        detail = f"session {session} is closed, but that cannot be recorded right now; delete it again"
        raise Refusal(503, detail, retry_after=b"5")
