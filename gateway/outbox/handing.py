"""Gives a stored send to the worker that has its session, at most once.

hours? ─ somebody to ask? ─ tokens? ─ a connection? ─ noted: given to w1 ─ POST ──▶ 2xx          sent
                                                                                    4xx, 3xx     rejected by its worker
                                                                                    5xx, nothing unknown: reported,
                                                                                                 not repeated
wherever it was certainly not sent (no owner, no connection, 421, 429, 503, being restored) it is put off, for a day
"""

from __future__ import annotations

import time

from gateway.limits import peers
from gateway.limits.limiter import Limiter
from gateway.outbox import metrics, pace
from gateway.outbox.asking import Asking, Known, LeaseOver, Send
from gateway.outbox.ending import GIVEN_UP_AFTER, Endings, settled
from gateway.outbox.pace import NotYet
from gateway.outbox.pieces import why_failed
from gateway.outbox.results import Ended, Handed, Results
from gateway.outbox.stored import head_of
from gateway.plan import Invalid, Planner
from gateway.policies import Policies
from gateway.problems import Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.workers.bulk import value_of
from gateway.workers.calls import call_of
from gateway.workers.connections import Answer, NoAnswer
from gateway.workers.reach import Unreached
from gateway.workers.request import WorkerRequest
from gateway.workers.send_records import Outcome
from gateway.workers.target import Target
from gateway.workers.ways import Ways
from relay.deliver import outcome as deliveries
from relay.deliver.outcome import NotSent, parse_retry_after
from relay.deliver.sender import LEASE_OVER
from relay.queue.codec import Delivery
from sluice.http.server import RecordedExchange
from sluice.http.server.head import read_head
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("gateway")
MAX_ANSWER = 2**19
"""Bytes of a worker's answer."""
_NOT_SENT = frozenset((421, 429, 503))
_LONGEST = 300.0
"""Seconds after which no gateway is at a send any more."""


class HandOver:
    """Of one process: what `relay.dispatch` sends with."""

    def __init__(self, results: Results, limiter: Limiter, store: Store, ways: Ways, policies: Policies) -> None:
        self._results = results
        self._endings = Endings(results)
        self._limiter = limiter
        self._store = store
        self._ways = ways
        self._here: set[str] = set()
        """Those that this process is at."""
        self._asking = Asking(results, ways)
        self.apply(policies)

    def apply(self, policies: Policies) -> None:
        """What an edit changes: it holds for what waits, too."""
        self._planner = Planner(policies)
        self._waits_for_restored = policies.sessions.shields.restored
        self._endings.dedupe = policies.relay.dedupe

    async def post(self, delivery: Delivery, begin_by: float) -> deliveries.Outcome:
        if delivery.id in self._here:
            return NotSent("this gateway is at it", wait=1.0)
        self._here.add(delivery.id)
        try:
            return await self._post(delivery, begin_by)
        except (StoreAway, StoreRefused) as error:
            return await self._endings.without_store(delivery, error, self._asking.unasked.pop(delivery.id, None))
        finally:
            self._here.discard(delivery.id)

    async def post_batch(self, batch: object, begin_by: float) -> list[deliveries.Outcome]:
        raise NotImplementedError("sends go one by one")

    async def _post(self, delivery: Delivery, begin_by: float) -> deliveries.Outcome:
        head = head_of(delivery, self._planner)
        plan = self._planner.plan(head, delivery.body, time.time(), verified=False)
        if isinstance(plan, Invalid):
            return await self._endings.put_off(
                delivery, f"the policies refuse it now: {plan.refusal.detail}", "refused"
            )
        outgoing = UpstreamRequest(head, delivery.body, idle=plan.rules.idle)
        call, exchange = call_of(head.method, head.path), RecordedExchange(_HEAD, MAX_ANSWER)
        request = WorkerRequest(call, delivery.session or "", outgoing, plan.json, plan.rules.headers_within, exchange)
        send = Send(delivery, plan, request, begin_by)
        try:
            return await self._give(send)
        except LeaseOver:
            return LEASE_OVER
        except Known as known:
            return await self._known(send, known.state)

    async def _give(self, send: Send, *, anyway: bool = False) -> deliveries.Outcome:
        """`anyway`: also if it was given to a worker before."""
        if send.delivery.crash_count and not anyway:
            known = await self._results.look(send.id, send.session)
            if known is not None and not await self._may_ask_again(send, known):
                raise Known(known)
        not_yet = pace.outside_hours(send.plan.queued, time.time())
        if not_yet is not None:
            return _not_yet(not_yet)
        unreached = await self._ways.reach.once(send.session, _whoever)
        if isinstance(unreached, Unreached):
            return await self._endings.put_off(send.delivery, unreached.refusal.detail, "unreached", send.attempt)
        if await self._is_restoring_bulk(send):
            return await self._endings.put_off(
                send.delivery, "its worker restores the session", "unreached", send.attempt
            )
        not_yet = await pace.take(self._limiter, send.plan.queued)
        return _not_yet(not_yet) if not_yet is not None else await self._ask(send, anyway=anyway)

    async def _may_ask_again(self, send: Send, known: Ended | Handed) -> bool:
        """Whether whoever was given it still has the session, and sends nothing twice that has the same id."""
        if isinstance(known, Ended) or not known.run:
            return False
        target = await self._ways.reach.once(send.session, _whoever)
        return (
            not isinstance(target, Unreached)
            and target.worker == known.worker
            and self._results.receipts.run_of(target) == known.run
        )

    async def _is_restoring_bulk(self, send: Send) -> bool:
        """Else its worker would say that every message failed."""
        return (
            self._waits_for_restored
            and send.request.call == "bulk_send"
            and await self._ways.until_restored.is_restoring(send.request)
        )

    async def _ask(self, send: Send, *, anyway: bool = False, again: bool = False) -> deliveries.Outcome:
        """`again`: what was refused a moment ago, when its session was being restored."""
        try:
            answer = await self._asking.ask(send, anyway=anyway)
        except NoAnswer as error:
            if error.sent and send.is_asked:
                return await self._unknown(send, error)
            return await self._endings.put_off(send.delivery, error.detail, "unreached", send.attempt)
        except Refusal as refusal:
            if refusal.status == 404:
                return await self._ended(send, refusal, "rejected", refusal.detail)
            return await self._endings.put_off(send.delivery, refusal.detail, "unreached", send.attempt)
        if isinstance(answer, Unreached):
            return await self._endings.put_off(send.delivery, answer.refusal.detail, "unreached", send.attempt)
        try:
            state = "gone" if again or not self._waits_for_restored else await self._state(send, answer)
            if state == "gone":
                return await self._answered(send, answer)
        finally:
            answer.close()
        if state == "runs":  # restored meanwhile
            return await self._ask(send, anyway=anyway, again=True)
        return await self._endings.put_off(send.delivery, "its worker restores the session", "unreached", send.attempt)

    async def _state(self, send: Send, answer: Answer) -> str:
        return await self._ways.until_restored.about(send.request, answer)

    async def _answered(self, send: Send, answer: Answer) -> deliveries.Outcome:
        status, worker = answer.response.status, answer.worker
        if status in _NOT_SENT:
            wait = parse_retry_after([(field.key, field.value) for field in answer.response.fields.all], time.time())
            why = f"worker {worker} answered {status}"
            return await self._endings.put_off(send.delivery, why, "unreached", send.attempt, at_least=wait or 0.0)
        recorded = RecordedExchange(_HEAD, MAX_ANSWER)
        await answer.give(recorded)
        if status >= 500 or not recorded.complete:
            why = recorded.why or f"worker {worker} answered {status}, or more than is kept"
            broken = Refusal(502, "the worker broke off its answer, or answered more than is kept").because(why)
            return await self._unknown(send, recorded if recorded.complete else broken)
        rejected = _rejected(send, recorded)
        if not rejected:
            return await self._ended(send, recorded, "sent")
        return await self._ended(send, recorded, "rejected", f"worker {worker} {rejected}")

    async def _known(self, send: Send, state: Ended | Handed) -> deliveries.Outcome:
        """It was given to a worker before, by a gateway that may still be at it."""
        if isinstance(state, Ended):
            return settled(state)
        send.worker = state.worker
        if await self._is_there(state):
            metrics.put_off("asked")
            return NotSent(f"gateway {state.gateway} is at it", wait=1.0)
        if send.repeats:
            return await self._give(send, anyway=True)
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - state.ago))
        why = f"it was given to worker {state.worker} at {when}, and the gateway that did so is gone"
        return await self._ended(send, Refusal(504, why), "unknown", why)

    async def _is_there(self, state: Handed) -> bool:
        """Whether the gateway that gave it to a worker may still be at it."""
        if state.gateway == self._results.gateway or state.ago > _LONGEST:
            return False
        return await peers.last_said(self._store, state.gateway) is not None

    async def _unknown(self, send: Send, outcome: Outcome) -> deliveries.Outcome:
        """Its worker was asked, and nobody knows whether it went out."""
        why = f"worker {send.worker}: {outcome.why}" if isinstance(outcome, Refusal) else _said(send.worker, outcome)
        if send.repeats:
            return await self._endings.put_off(send.delivery, why, "unreached", send.attempt)
        if self._is_known_to(send.target) and time.time() - send.delivery.accepted_at < GIVEN_UP_AFTER:
            return NotSent(why, wait=2.0)  # the note stays: only this run of the worker may be asked again
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        why = f"it was given to {why}; {when}"
        return await self._ended(send, outcome, "unknown", why)

    def _is_known_to(self, target: Target | None) -> bool:
        """Whether the worker sends nothing twice that has the same id."""
        return target is not None and self._results.receipts.run_of(target) != ""

    async def _ended(self, send: Send, outcome: Outcome, what: str, why: str = "") -> deliveries.Outcome:
        metrics.send(what)
        if what == "unknown":
            return await self._endings.end(send.delivery, send.worker, outcome, dead=why)
        return await self._endings.end(send.delivery, send.worker, outcome, dead_if_promised=why)


_HEAD = read_head(b"POST / HTTP/1.1\r\nHost: sluice\r\n\r\n")


async def _whoever(target: Target) -> Target:
    return target


def _not_yet(not_yet: NotYet) -> NotSent:
    metrics.put_off(not_yet.kind)
    return NotSent(not_yet.why, wait=not_yet.wait)


def _rejected(send: Send, answer: RecordedExchange) -> str:
    """Why its worker has not taken it; empty: it has."""
    if answer.status >= 300:
        return why_failed(answer).removeprefix("the worker ")
    value = value_of(answer) if send.request.call == "bulk_send" else None
    errors = value["errors"] if value else []
    return f"refused it: {str(errors[0])[:200]}" if errors and value and not value["results"] else ""


def _said(worker: str, answer: RecordedExchange) -> str:
    return f"worker {worker}, which {why_failed(answer).removeprefix('the worker ')}"
