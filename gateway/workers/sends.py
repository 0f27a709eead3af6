"""Sends of the existing workers' contract: each goes on when its caller hangs up, and a repeat gets its outcome.

Laravel sends again what was answered 5xx or not in time, and a worker does not stop for a caller that hangs up: so the
message went out twice. A send is a repeat when session and body are those of an attempt whose outcome has not reached
its caller, for two minutes after it has ended. It is answered with that outcome, and nothing is sent. Who has got an
outcome and sends the same again means it.
"""

from __future__ import annotations

import asyncio
import time
from hashlib import blake2b

from gateway.plan import Plan
from gateway.problems import ClientGone, Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.request import Head
from gateway.workers import metrics
from gateway.workers.attempts import Attempt, Attempts
from gateway.workers.bulk import Bulk
from gateway.workers.calls import Call, call_of
from gateway.workers.connections import NoAnswer
from gateway.workers.proxy import WorkerProxy
from gateway.workers.send_records import KEPT_FOR, UNKNOWN, Found, Outcome, SendRecords, packed, unpacked
from sessions.shields import Shields
from sluice.http.bodies import BodyBudget
from sluice.http.server import Exchange, RecordedExchange
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("gateway")
SENDS: frozenset[Call] = frozenset({"send", "send_media", "bulk_send"})
MAX_ANSWER, MAX_BULK_ANSWER = 256 * 2**10, 8 * 2**20
"""Bytes of a worker's answer."""
_FROM_ANOTHER_CONNECTION = 0.05
"""Seconds in which it is seen that the connection of the attempt before was closed."""
_DRAINED_WITHIN = 5.0


class Sends:
    """Of one process. `bodies`: of its budget attempts hold a part."""

    def __init__(self, workers: WorkerProxy, records: SendRecords, bodies: BodyBudget) -> None:
        self._workers = workers
        self._records = records
        self._bulk = Bulk()
        self._shields = Shields()
        self._attempts = Attempts(bodies)

    def apply(self, shields: Shields) -> None:
        """What an edit changes."""
        self._shields = shields

    def digest_of(self, plan: Plan, head: Head, body: bytes | None) -> str | None:
        """By what the same send is known; None: it is none, or not shielded."""
        if head.method != "POST" or not plan.subject.session:
            return None
        call = call_of(head.method, head.path)
        if call not in SENDS or not (self._shields.repeats or (call == "bulk_send" and self._shields.bulk)):
            return None
        known = blake2b(f"{call}\0{plan.subject.session}\0".encode(), digest_size=16)
        known.update(body or b"")
        return known.hexdigest()

    async def join(self, digest: str, exchange: Exchange) -> int | None:
        """The outcome of the attempt that this is a repeat of; None: this gateway knows of none. Raises as `answer`."""
        if digest not in self._attempts or not self._shields.repeats:
            return None
        attempt = self._attempts.left(digest)
        if attempt is None:
            await asyncio.sleep(_FROM_ANOTHER_CONNECTION)
            attempt = self._attempts.left(digest)
        if attempt is None:
            return None
        _log_joined(attempt.session, time.monotonic() - attempt.began)
        self._records.note(digest, attempt.id, "joined")
        return await self._wait(attempt, exchange)

    async def answer(self, digest: str, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange) -> int:
        """The status given to the client. Raises Refusal, and ClientGone for one that hangs up: the attempt goes on."""
        session, size = plan.subject.session or "", len(outgoing.body or b"")
        attempt = Attempt(digest, call_of(outgoing.head.method, outgoing.head.path), session, size)
        if not self._attempts.has_room(size):
            metrics.send("unshielded")
            return await self._workers.answer(plan, outgoing, exchange)
        if self._shields.repeats:
            found = await self._records.begin(digest, attempt.id)
            if found is not None:
                return await self._join_elsewhere(digest, found, session, exchange)
            if exchange.disconnected:
                self._records.note(digest, attempt.id, "given")
                raise ClientGone
        self._attempts.add(attempt)
        attempt.task = asyncio.create_task(self._run(attempt, plan, outgoing, exchange))
        return await self._wait(attempt, exchange)

    async def _wait(self, attempt: Attempt, exchange: Exchange) -> int:
        attempt.callers += 1
        left = asyncio.Event()
        exchange.on_disconnect(left.set)
        waiting = [asyncio.create_task(event.wait()) for event in (attempt.ended, left)]
        outcome = None
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            outcome = attempt.outcome
            if outcome is not None and not exchange.disconnected:
                await _give(outcome, exchange)
        finally:
            for one in waiting:
                one.cancel()
            attempt.callers -= 1
            self._settle(attempt, reached=outcome is not None and not exchange.disconnected)
        if exchange.disconnected or outcome is None:
            raise ClientGone
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome.status

    def _settle(self, attempt: Attempt, *, reached: bool) -> None:
        """A caller has its outcome, or has hung up."""
        ended = attempt.outcome is not None
        if ended and (not attempt.was_sent or (reached and attempt.is_answered)):
            self._forget(attempt)
        elif not attempt.callers:
            if not ended:
                seconds = round(time.monotonic() - attempt.began, 3)
                LOG.info("send.goes_on", session=attempt.session, call=attempt.call, seconds=seconds)
            self._records.note(attempt.digest, attempt.id, "left")

    def _forget(self, attempt: Attempt) -> None:
        if self._attempts.forget(attempt):
            self._records.note(attempt.digest, attempt.id, "given")

    async def _run(self, attempt: Attempt, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange) -> None:
        outcome: Outcome = UNKNOWN
        try:
            outcome = await self._outcome(attempt, plan, outgoing, exchange)
        except Refusal as refusal:
            outcome = refusal
            attempt.was_sent = isinstance(refusal, _BrokenOff) or (isinstance(refusal, NoAnswer) and refusal.sent)
        except Exception as error:  # noqa: BLE001 (its caller may be gone, and nobody behind us would report it)
            LOG.error("send.failed", session=attempt.session, exception=error)
        finally:
            self._end(attempt, outcome)

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        self._attempts.end(attempt, outcome)
        if attempt.was_sent and not attempt.is_answered:
            metrics.send("unknown")
            LOG.warning("send.unknown", session=attempt.session, call=attempt.call)
        if not attempt.was_sent and not attempt.callers:
            self._forget(attempt)
            return
        if not attempt.callers or not attempt.is_answered:
            self._records.note(attempt.digest, attempt.id, "ended", packed(outcome))
        attempt.kept = asyncio.get_running_loop().call_later(KEPT_FOR, self._forget, attempt)

    async def _outcome(
        self, attempt: Attempt, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange
    ) -> RecordedExchange:
        async def ask(request: UpstreamRequest) -> RecordedExchange:
            answer = RecordedExchange(exchange.head, MAX_BULK_ANSWER if attempt.call == "bulk_send" else MAX_ANSWER)
            await self._workers.answer(plan, request, answer)
            if not answer.complete:
                raise _BrokenOff(502, "the worker broke off its answer, or answered more than is kept")
            return answer

        if attempt.call != "bulk_send" or not self._shields.bulk:
            return await ask(outgoing)

        def goes_on() -> None:
            self._records.note(attempt.digest, attempt.id, "goes_on")

        return await self._bulk.answer(attempt.session, outgoing, ask, goes_on)

    async def _join_elsewhere(self, digest: str, found: Found, session: str, exchange: Exchange) -> int:
        """An attempt that another gateway makes."""
        _log_joined(session)
        here = self._attempts.by_id(digest, found.attempt)
        if here is not None:
            return await self._wait(here, exchange)
        waiting = asyncio.create_task(self._records.outcome(digest, found))
        exchange.on_disconnect(waiting.cancel)
        outcome: Outcome = UNKNOWN
        reached = False
        try:
            kept = await waiting
            outcome = UNKNOWN if kept is None else unpacked(kept, exchange.head)
            await _give(outcome, exchange)
            reached = not exchange.disconnected and isinstance(outcome, RecordedExchange)
        except (StoreAway, StoreRefused):
            pass
        except asyncio.CancelledError:
            if not exchange.disconnected:
                raise
        finally:
            self._records.note(digest, found.attempt, "given" if reached else "left")
        if exchange.disconnected:
            raise ClientGone
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome.status

    def stop(self) -> None:
        """What is not begun of bulk-sends stays unsent."""
        self._bulk.stop()

    async def close(self) -> None:
        """Attempts under way have a few seconds to end; what is left then nobody knows the outcome of."""
        tasks = [attempt.task for attempt in self._attempts if attempt.task is not None and attempt.outcome is None]
        if tasks:
            await asyncio.wait(tasks, timeout=_DRAINED_WITHIN)
        for attempt in self._attempts:
            if attempt.kept is not None:
                attempt.kept.cancel()
            if attempt.task is not None and attempt.outcome is None:
                LOG.warning("send.left", session=attempt.session, call=attempt.call)
                attempt.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._records.close()


class _BrokenOff(Refusal):
    """Of an answer that had begun."""


def _log_joined(session: str, ago: float | None = None) -> None:
    metrics.send("joined")
    LOG.info("send.joined", session=session, ago=None if ago is None else round(ago, 3))


async def _give(outcome: Outcome, exchange: Exchange) -> None:
    for _ in range(2):  # a client that has gone by now is heard of in the loop's next turn
        await asyncio.sleep(0)
    if isinstance(outcome, RecordedExchange) and not exchange.disconnected:
        outcome.give(exchange)
        await exchange.drain()
