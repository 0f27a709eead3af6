"""Asks the worker that has its session to send what is stored, and notes that right before.

What is noted counts as sent from then on, should this process be killed. So the note is made when all else is there,
and of few sends at a time.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field

from gateway.outbox.results import Ended, Handed, Results
from gateway.plan import Plan
from gateway.workers.connections import Answer
from gateway.workers.reach import Unreached
from gateway.workers.request import WorkerRequest
from gateway.workers.target import Target
from gateway.workers.ways import Ways
from relay.queue.codec import Delivery
from sluice.process.boottime import boottime

_NOTED_AT_ONCE = 2
"""Sends whose note is on its way to the store: as many as a kill leaves unknown, at most, that never went out."""


class Known(Exception):
    """It was given to a worker before."""

    def __init__(self, state: Ended | Handed) -> None:
        super().__init__()
        self.state = state


class LeaseOver(Exception):
    """Somebody else may have it by now."""


@dataclass(slots=True)
class Send:
    """On its way."""

    delivery: Delivery
    plan: Plan
    request: WorkerRequest
    begin_by: float
    target: Target | None = None
    """That was asked last."""
    worker: str = ""
    is_asked: bool = False
    """Its worker may have got some of it."""
    attempt: str = field(default_factory=lambda: secrets.token_hex(4))
    """By it its own note is known: one of another attempt may be of a worker that has sent it."""

    @property
    def id(self) -> str:
        return self.delivery.id

    @property
    def session(self) -> str:
        return self.delivery.session or ""

    @property
    def repeats(self) -> bool:
        """Whether it is sent again where nobody knows if it went out, as all its limits say."""
        queued = self.plan.queued
        return bool(queued) and all(bucket.limit.unknown == "repeat" for bucket in queued)


class Asking:
    """Of one process."""

    def __init__(self, results: Results, ways: Ways) -> None:
        self.unasked: dict[str, str] = {}
        """Noted as given to a worker, as far as is known, which was not asked, as the store did not answer in time; and
        in which attempt."""
        self._results = results
        self._ways = ways
        self._noting = asyncio.Semaphore(_NOTED_AT_ONCE)

    async def ask(self, send: Send, *, anyway: bool = False) -> Answer | Unreached:
        """`anyway`: also where it was given to a worker before; else that raises Known. Raises LeaseOver, StoreAway,
        StoreRefused, and as `WorkerConnections.ask`; then `is_asked` says whether any of it may have left."""

        async def ask(target: Target) -> Answer | None:
            send.is_asked = False  # by whoever was asked before in this attempt nothing was done
            request, more = send.request, self._results.receipts.fields(target, send.id)
            return await self._ways.connections.ask(
                *(target, request.outgoing, request.exchange, request.timeout),
                cut=False,
                session=send.session,
                more=more,
                before_sending=lambda: self._note(send, target, anyway=anyway),
            )

        return await self._ways.reach.once(send.session, ask)

    async def _note(self, send: Send, target: Target, *, anyway: bool) -> None:
        """That it is given to this worker: a connection is there, and the first byte leaves as soon as this returns."""
        async with self._noting:
            if boottime() > send.begin_by:
                raise LeaseOver
            self.unasked[send.id] = send.attempt
            state = await self._results.hand_over(send.id, send.session, target, send.attempt, anyway=anyway)
            del self.unasked[send.id]
            if state is not None:
                raise Known(state)
            send.target, send.worker, send.is_asked = target, target.worker, True
