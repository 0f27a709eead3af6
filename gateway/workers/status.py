"""Status never lies downwards.

Laravel marks an account disconnected on any answer to its status request that is not a 2xx. So while a session is
handed over, the store is away, or a worker that was started again restores its sessions one after the other (404 until
it has begun with one), status is answered from what was last known: until the worker lists the session, at most
`sessions.restore`. What a worker itself says passes.
"""

from __future__ import annotations

from typing import Literal

from gateway.problems import Refusal, answer
from gateway.workers import metrics
from gateway.workers.connections import Answer, NoAnswer
from gateway.workers.keys import Keys, answer_invalid, given_in
from gateway.workers.last_known import LastKnown, Noted, status_of, status_unknown
from gateway.workers.reach import Reach
from gateway.workers.request import WorkerRequest, uncompressed
from gateway.workers.restoring import Restoring
from sessions.registry import Registry, SessionRow
from sluice.http import client as http1
from sluice.store.client import StoreAway, StoreRefused

Why = Literal["unowned", "no_worker", "no_answer", "store_away", "restoring", "refused"]
_HOLD = 2.0
"""Seconds for a session of which nothing is known; Laravel waits for 3."""
_NOT_FOUND = b'{"error":"Session not found"}'
_JSON = b"application/json; charset=utf-8"


class StatusCalls:
    def __init__(
        self, registry: Registry, reach: Reach, last_known: LastKnown, keys: Keys, restoring: Restoring
    ) -> None:
        self._registry = registry
        self._reach = reach
        self._last_known = last_known
        self._restoring = restoring
        self.keys = keys

    async def answer(self, request: WorkerRequest) -> int:
        """Its status. Raises ClientGone."""
        request.outgoing = uncompressed(request.outgoing)
        try:
            reached = await self._reach.attempt(request)
        except NoAnswer:
            return await self.instead(request, "no_answer")
        except Refusal as refusal:
            if refusal.status != 404:
                raise
            await answer(request.exchange.send, 404, _NOT_FOUND, _JSON, [])  # the truth, in the contract's words
            return 404
        if not isinstance(reached, Answer):
            return await self.instead(request, reached.why)
        try:
            return await self._given(request, reached)
        finally:
            reached.close()

    async def _given(self, request: WorkerRequest, reached: Answer) -> int:
        status = reached.response.status
        if status == 404:
            row = await self._restoring.missing(request.session, reached.worker)
            if row is not None:
                reached.close()
                return await self._from(request, "restoring", row)
        elif status == 200 and reached.is_small:
            try:
                body = await reached.whole(request.timeout)
            except http1.UpstreamError:
                return await self.instead(request, "no_answer")
            row = await self._restoring.logging_in(request.session, reached.worker, body)
            if row is not None:
                reached.close()
                return await self._from(request, "restoring", row)
            self._last_known.note(request.session, reached.worker, body)
        return await reached.give(request.exchange)

    async def instead(self, request: WorkerRequest, why: Why) -> int:
        """In place of an answer that no worker gives."""
        noted = self._last_known.of(request.session)
        if why == "store_away" and noted is not None and noted.body:
            return await self._from(request, why, noted)
        known = await self._known(request.session)
        if known is None:
            return await self._of_nobody(request, why)
        return await self._from(request, why, known)

    async def in_place_of(self, request: WorkerRequest) -> int | None:
        """In place of a refusal of ours. None: it is given, as the registry knows no such session and the caller has
        not shown a worker's key; or strangers who make up names would not be bound by any limit."""
        try:
            row = await self._registry.wanted(request.session)
            if row is None and not self.keys.opened_by(given_in(request.outgoing.head)):
                return None
        except (StoreAway, StoreRefused):
            pass  # it may be known
        return await self.instead(request, "refused")

    async def _known(self, session: str) -> SessionRow | Noted | None:
        try:
            row = await self._registry.wanted(session)
        except (StoreAway, StoreRefused):
            return self._last_known.of(session)
        if row is None:
            self._last_known.forget(session)
        return row

    async def _of_nobody(self, request: WorkerRequest, why: Why) -> int:
        """Nothing is known of it."""
        if not self.keys.accept(given_in(request.outgoing.head)):
            return await answer_invalid(request.exchange.send)
        if why in ("unowned", "no_worker", "store_away"):
            try:
                reached = await self._reach.answer(request, hold=_HOLD)
            except Refusal:
                pass
            else:
                try:
                    return await self._given(request, reached)
                finally:
                    reached.close()
        metrics.from_last_known(why)
        await answer(request.exchange.send, 200, status_unknown(request.session), _JSON, [])
        return 200

    async def _from(self, request: WorkerRequest, why: Why, known: SessionRow | Noted) -> int:
        noted = self._last_known.of(request.session)
        if isinstance(known, Noted):
            worker, body = known.worker, known.body or status_unknown(request.session)
        else:
            worker, body = known.worker or known.last_owner or "", status_of(known, noted)
        if not self.keys.accept(given_in(request.outgoing.head), worker):
            return await answer_invalid(request.exchange.send)
        metrics.from_last_known(why)
        await answer(request.exchange.send, 200, body, _JSON, [])
        return 200
