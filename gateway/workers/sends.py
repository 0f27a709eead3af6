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

from gateway.outbox.outbox import Outbox
from gateway.plan import Plan
from gateway.problems import ClientGone, Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.request import Head
from gateway.workers import metrics
from gateway.workers.attempts import Attempt, Attempts
from gateway.workers.calls import Call, call_of
from gateway.workers.connections import NoAnswer
from gateway.workers.outcomes import BrokenOff, Outcomes
from gateway.workers.proxy import WorkerProxy
from gateway.workers.send_records import KEPT_FOR, UNKNOWN, Found, Outcome, SendRecords, packed, unpacked
from sessions.shields import Shields
from sluice.http.bodies import BodyBudget
from sluice.http.server import Exchange, RecordedExchange, RequestHead
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("gateway")
SENDS: frozenset[Call] = frozenset({"send", "send_media", "bulk_send"})
_FROM_ANOTHER_CONNECTION = 0.05
"""Seconds in which the end of the connection of the attempt before arrives."""
_RESET_WITHIN = 0.5
"""Seconds in which it is seen that a caller has hung up while its answer was on its way. Until then a repeat that
another gateway gets waits there."""
_DRAINED_WITHIN = 5.0


class Sends:
    """Of one process. `bodies`: of its budget attempts hold a part."""

    def __init__(self, workers: WorkerProxy, records: SendRecords, bodies: BodyBudget, outbox: Outbox) -> None:
        self._workers = workers
        self._outbox = outbox
        self._records = records
        self._outcomes = Outcomes(workers, records, outbox)
        self._shields = Shields()
        self._attempts = Attempts(bodies)

    def apply(self, shields: Shields) -> None:
        """What an edit changes."""
        self._shields = self._outcomes.shields = shields

    def digest_of(self, plan: Plan, head: Head, body: bytes | None) -> str | None:
        """By what the same send is known; None: it is none, or not shielded."""
        return _digest_of(self._shields, plan, head, body)

    async def join(self, digest: str, exchange: Exchange) -> int | None:
        """The outcome of the attempt that this is a repeat of; None: this gateway knows of none. Raises as `answer`."""
        if digest not in self._attempts or not self._shields.repeats:
            return None
        attempt = self._attempts.left(digest)
        if attempt is None:
            await asyncio.sleep(_FROM_ANOTHER_CONNECTION)
            attempt = self._attempts.left(digest)
        return None if attempt is None else await self._join_here(attempt, exchange)

    async def _join_here(self, attempt: Attempt, exchange: Exchange) -> int:
        _log_joined(attempt.session, time.monotonic() - attempt.began)
        self._records.note(attempt.digest, attempt.id, "joined")
        return await self._wait(attempt, exchange)

    async def answer(self, digest: str, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange) -> int:
        """The status given to the client. Raises Refusal, and ClientGone for one that hangs up: the attempt goes on."""
        session, size = plan.subject.session or "", len(outgoing.body or b"")
        attempt = Attempt(digest, call_of(outgoing.head.method, outgoing.head.path), session, size)
        if not self._attempts.has_room(size):
            metrics.send("unshielded")
            if plan.queued:
                return await self._outbox.serve(plan, outgoing, exchange, attempt.began)
            return await self._workers.answer(plan, outgoing, exchange)
        if plan.queued:
            attempt.id = attempt.stored_as = self._outcomes.id_of(digest, plan, outgoing)
        if self._shields.repeats:
            found = await self._records.begin(digest, attempt.id)
            if found is not None:
                return await self._join_elsewhere(attempt, found, plan, outgoing, exchange)
            if exchange.disconnected:
                self._records.note(digest, attempt.id, "given")
                raise ClientGone
            same = self._attempts.left(digest)
            if same is not None:  # begun or joined meanwhile for a caller that has hung up since
                self._records.note(digest, attempt.id, "given")
                return await self._join_here(same, exchange)
        self._attempts.add(attempt)
        attempt.task = asyncio.create_task(self._run(attempt, plan, outgoing, exchange))
        return await self._wait(attempt, exchange)

    async def _join_elsewhere(
        self, attempt: Attempt, found: Found, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange
    ) -> int:
        """From now on the attempt of another gateway is known here like one of its own."""
        _log_joined(attempt.session)
        here = self._attempts.by_id(attempt.digest, found.attempt)
        if here is None:
            here, attempt.id, attempt.size = attempt, found.attempt, 0
            attempt.stored_as = attempt.id if plan.queued else ""
            self._attempts.add(here)
            here.task = asyncio.create_task(self._follow(here, found, plan, outgoing, exchange.head))
        return await self._wait(here, exchange)

    async def _wait(self, attempt: Attempt, exchange: Exchange) -> int:
        attempt.callers.append(exchange)
        exchange.stored_as = attempt.stored_as
        left = asyncio.Event()
        exchange.on_disconnect(left.set)
        waiting = [asyncio.create_task(event.wait()) for event in (attempt.ended, left)]
        outcome, gone = None, True
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            outcome, gone = attempt.outcome, exchange.has_hung_up()
            if outcome is not None and not gone:
                exchange.on_reset(lambda: self._unread(attempt))
                await _give(outcome, exchange)
        finally:
            for one in waiting:
                one.cancel()
            attempt.callers.remove(exchange)
            self._settle(attempt, reached=outcome is not None and not gone and not exchange.disconnected)
        if gone or exchange.disconnected or outcome is None:
            raise ClientGone
        if isinstance(outcome, Refusal):
            raise outcome
        return outcome.status

    def _settle(self, attempt: Attempt, *, reached: bool) -> None:
        """A caller has its outcome, or has hung up."""
        outcome = attempt.outcome
        if outcome is not None and not attempt.was_sent:
            self._forget(attempt)
        elif reached and attempt.is_answered:
            attempt.is_given = True
            attempt.keep(_RESET_WITHIN, self._forget)
        elif not attempt.callers:
            if outcome is not None:  # it ended while the caller was about to hang up
                self._records.note(attempt.digest, attempt.id, "ended", packed(outcome))
            else:
                seconds = round(time.monotonic() - attempt.began, 3)
                LOG.info("send.goes_on", session=attempt.session, call=attempt.call, seconds=seconds)
            self._records.note(attempt.digest, attempt.id, "left")

    def _unread(self, attempt: Attempt) -> None:
        """Its caller hung up while the answer was on its way."""
        known = self._attempts.by_id(attempt.digest, attempt.id) is not None
        if attempt.was_sent and attempt.outcome is not None and (attempt.is_given or not known):
            attempt.is_given = False
            if not known:
                self._attempts.add(attempt)
            self._records.note(attempt.digest, attempt.id, "unread", packed(attempt.outcome))
            attempt.keep(KEPT_FOR, self._forget)

    def _forget(self, attempt: Attempt) -> None:
        if self._attempts.forget(attempt):
            self._records.note(attempt.digest, attempt.id, "given")

    async def note_left(self) -> None:
        """Notes of all attempts whose callers have hung up by now that they have, before this gateway says that it is
        there: another one that waits for it to say so (`Presence`) goes by that."""
        for attempt in self._attempts:
            if attempt.callers and attempt.is_left:
                self._records.note(attempt.digest, attempt.id, "left")
        await self._records.noted()

    async def _run(self, attempt: Attempt, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange) -> None:
        outcome: Outcome = UNKNOWN
        try:
            outcome = await self._outcomes.outcome(attempt, plan, outgoing, exchange.head)
        except Refusal as refusal:
            outcome = refusal
            attempt.was_sent = isinstance(refusal, BrokenOff) or (isinstance(refusal, NoAnswer) and refusal.sent)
        except Exception as error:  # noqa: BLE001 (its caller may be gone, and nobody behind us would report it)
            LOG.error("send.failed", session=attempt.session, exception=error)
        finally:
            self._end(attempt, outcome)

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        self._attempts.end(attempt, outcome)
        if attempt.was_sent and not attempt.is_answered and not attempt.stored_as:
            _log_unknown(attempt)
        if not attempt.was_sent and not attempt.callers:
            self._forget(attempt)
            return
        if not attempt.callers:
            self._records.note(attempt.digest, attempt.id, "ended", packed(outcome))
        attempt.keep(KEPT_FOR, self._forget)

    async def _follow(
        self, attempt: Attempt, found: Found, plan: Plan, outgoing: UpstreamRequest, head: RequestHead
    ) -> None:
        """An attempt that another gateway makes. Of one that is gone it is known what it has stored."""
        outcome: Outcome = UNKNOWN
        try:
            kept = await self._records.outcome(attempt.digest, found)
            if kept is not None:
                outcome = unpacked(kept, head)
            elif plan.queued:
                outcome = await self._outcomes.stored(attempt, plan, outgoing, head)
        except Refusal as refusal:
            outcome = refusal
        except (StoreAway, StoreRefused) as error:
            LOG.warning("send.not_followed", session=attempt.session, reason=str(error))
        finally:
            self._end(attempt, outcome)

    def stop(self) -> None:
        """What is not begun of bulk-sends stays unsent."""
        self._outcomes.stop()

    async def close(self) -> None:
        """Attempts under way have a few seconds to end; what is left then nobody knows the outcome of."""
        tasks = [attempt.task for attempt in self._attempts if attempt.task is not None and attempt.outcome is None]
        if tasks:
            await asyncio.wait(tasks, timeout=_DRAINED_WITHIN)
        for attempt in self._attempts:
            if attempt.is_given:
                self._forget(attempt)
            elif attempt.kept is not None:
                attempt.kept.cancel()
            if attempt.task is not None and attempt.outcome is None:
                LOG.warning("send.left", session=attempt.session, call=attempt.call)
                attempt.task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._records.noted()


def _digest_of(shields: Shields, plan: Plan, head: Head, body: bytes | None) -> str | None:
    if head.method != "POST" or not plan.subject.session:
        return None
    call = call_of(head.method, head.path)
    if call not in SENDS or not (shields.repeats or (call == "bulk_send" and shields.bulk)):
        return None
    known = blake2b(f"{call}\0{plan.subject.session}\0".encode(), digest_size=16)
    known.update(body or b"")
    return known.hexdigest()


def _log_unknown(attempt: Attempt) -> None:
    metrics.send("unknown")
    LOG.warning("send.unknown", session=attempt.session, call=attempt.call)


def _log_joined(session: str, ago: float | None = None) -> None:
    metrics.send("joined")
    LOG.info("send.joined", session=session, ago=None if ago is None else round(ago, 3))


async def _give(outcome: Outcome, exchange: Exchange) -> None:
    if isinstance(outcome, RecordedExchange):
        outcome.give(exchange)
        await exchange.drain()
