"""What comes of an attempt to send: of a worker that is asked now, or of a send that is stored."""

from __future__ import annotations

import time

from gateway.outbox.outbox import NotStored, Outbox, is_known
from gateway.plan import Plan
from gateway.problems import Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.workers.attempts import Attempt
from gateway.workers.bulk import Bulk
from gateway.workers.proxy import WorkerProxy
from gateway.workers.send_records import KEPT_FOR, Outcome, SendRecords
from sessions.shields import Shields
from sluice.http.server import RecordedExchange, RequestHead
from sluice.process.cache import Latest

MAX_ANSWER, MAX_BULK_ANSWER = 256 * 2**10, 8 * 2**20
"""Bytes of a worker's answer."""


_MAX_UNSURE = 2**20  # bytes


class BrokenOff(Refusal):
    """Of an answer that had begun."""


class Outcomes:
    """Of one process."""

    def __init__(self, workers: WorkerProxy, records: SendRecords, outbox: Outbox) -> None:
        self.shields = Shields()
        self._workers = workers
        self._records = records
        self._outbox = outbox
        self._bulk = Bulk()
        self._unsure: Latest[str, tuple[str, float]] = Latest(_MAX_UNSURE)
        """By digest: the id under which a send may have been stored, and when (`time.monotonic`)."""

    async def outcome(self, attempt: Attempt, plan: Plan, outgoing: UpstreamRequest, head: RequestHead) -> Outcome:
        if plan.queued:
            return await self.stored(attempt, plan, outgoing, head)

        async def ask(request: UpstreamRequest) -> RecordedExchange:
            answer = RecordedExchange(head, MAX_BULK_ANSWER if attempt.call == "bulk_send" else MAX_ANSWER)
            await self._workers.answer(plan, request, answer)
            if not answer.complete:
                detail = "the worker broke off its answer, or answered more than is kept"
                raise BrokenOff(502, detail).because(answer.why or "it is too long")
            return answer

        if attempt.call != "bulk_send" or not self.shields.bulk:
            return await ask(outgoing)

        def goes_on() -> None:
            self._records.note(attempt.digest, attempt.id, "goes_on")

        return await self._bulk.answer(attempt.session, outgoing, ask, goes_on)

    def id_of(self, digest: str, plan: Plan, outgoing: UpstreamRequest) -> str:
        """Under which it is stored, or may have been a moment ago. Raises Refusal 400."""
        known = self._unsure.get(digest)
        if known is not None and time.monotonic() - known[1] < KEPT_FOR:
            return known[0]
        return self._outbox.id_for(plan, outgoing)

    async def stored(self, attempt: Attempt, plan: Plan, outgoing: UpstreamRequest, head: RequestHead) -> Outcome:
        """Of a send that a limit keeps."""
        try:
            outcome = await self._outbox.answer(attempt.id, plan, outgoing, head, attempt.began)
        except NotStored:
            self._unsure.keep(attempt.digest, (attempt.id, time.monotonic()), 2 * len(attempt.digest))
            raise
        attempt.is_unknown = not is_known(outcome)
        attempt.was_sent = attempt.is_unknown or not isinstance(outcome, Refusal)
        return outcome

    def stop(self) -> None:
        """What is not begun of bulk-sends stays unsent."""
        self._bulk.stop()
