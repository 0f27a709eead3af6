"""The edge: a request, from its head to its answer, in stages.

What needs only the head is decided before a byte of the body is read; nothing is asked of an upstream, and nothing
stored, before the limits have decided. `gateway.plan` holds the decisions, this file their order and the waiting.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, MutableMapping
from typing import Any, Final

from gateway import traced
from gateway.access_log import AccessLogEntry, broken_off, write
from gateway.ingest.hold import Hold
from gateway.ingest.identity import Webhook
from gateway.ingest.webhooks import Ingest
from gateway.large_bodies import beside
from gateway.limits.decide import PASS, Decision
from gateway.limits.headers import header_lines
from gateway.limits.held import HeldRequests
from gateway.limits.limiter import Limiter
from gateway.outbox.outbox import Outbox
from gateway.plan import Admission, Invalid, Plan, Planner, exceeded, refusal_of
from gateway.policies import Policies, ToRelay, ToUpstream, Trust
from gateway.problems import ClientGone, Receive, Refusal, Send, answer_json, refuse
from gateway.proxy.upstream import Downstream, UpstreamClient, UpstreamRequest, refusal_for
from gateway.proxy.websocket import (
    Destination,
    WebSocketLogEntry,
    WebSocketUpstream,
    read_handshake,
    serve as serve_websocket,
)
from gateway.request import Head, head_of
from gateway.workers.accounts import Division
from gateway.workers.proxy import WorkerProxy
from gateway.workers.sends import Sends
from sluice.http import client as http1
from sluice.http.bodies import BodyBudget, HeldBody
from sluice.http.request_id import id_of
from sluice.http.server import Exchange
from sluice.observe import tracing
from sluice.observe.log import Log

LOG: Final = Log("gateway")
_monotonic: Final = time.monotonic
_time: Final = time.time
_AGAIN: Final = 0.25  # seconds between two tries to have the limits decide
_LARGE: Final = 512 * 1024
"""Bytes of a body that is not looked into in between: a signature over 32 MiB takes 25 ms."""


class Edge:
    """Answers everything that is not `/_sluice/`."""

    def __init__(
        self,
        policies: Policies,
        limiter: Limiter,
        intake: Ingest,
        workers: WorkerProxy,
        sends: Sends,
        outbox: Outbox,
        upstreams: Mapping[str, UpstreamClient],
        websockets: Mapping[str, WebSocketUpstream],
        bodies: BodyBudget,
        hold: Hold,
        held: HeldRequests,
        division: Division | None = None,
    ) -> None:
        self._policies = policies
        self._tracer = tracing.tracer()
        self._combined = policies.log.requests == "combined"
        self._planner = Planner(policies)
        self._several = len(policies.listeners) > 1
        self._limiter = limiter
        self._intake = intake
        self._workers = workers
        self._sends = sends
        self._outbox = outbox
        self._bodies = bodies
        self._hold = hold
        self._held = held
        self._division = division
        self._upstreams = upstreams
        self._websockets = websockets

    async def answer(self, exchange: Exchange) -> None:
        """One request, to the end of its answer."""
        started = _monotonic()
        log = AccessLogEntry()
        try:
            log.status = await self._stages(exchange, log, started)
        except Refusal as refusal:
            refusal.with_traceback(None)  # its frames hold it, and the body with it, until somebody looks for cycles
            log.why = refusal.why
            log.status = await self._refuse(refusal, log, exchange)
        except ClientGone:
            log.status, log.why = exchange.gone_status, exchange.why_gone or "the client left before it was answered"
        except Exception as error:
            log.status = 500
            failed = _failed(log.plan)
            if failed is None:
                raise
            LOG.error("request.failed", exception=error, request_id=id_of(exchange.id_line))
            log.status, log.why = failed.status, failed.detail
            await refuse(exchange, failed)
        finally:
            if log.body is not None:
                log.body.release()
            log.why = log.why or exchange.why or exchange.why_gone
            log.id = log.id or exchange.stored_as or None
            write(log, exchange, started, combined=self._combined, several=self._several)

    async def _refuse(self, refusal: Refusal, log: AccessLogEntry, exchange: Exchange) -> int:
        """The status given to the client: of the refusal, or of what a worker's status is said to be instead."""
        plan = log.plan
        if plan is not None and plan.rules.to_workers:
            status = await self._workers.instead(refusal, plan, log.head, exchange)
            if status is not None:
                return status
        await refuse(exchange, refusal)
        return refusal.status

    async def _stages(self, exchange: Exchange, log: AccessLogEntry, started: float) -> int:
        """In this order, each only where the one before let the request pass. Raises Refusal and ClientGone."""
        planner, limiter, now = self._planner, self._limiter, _time()
        body = decision = None

        # Identify the client.
        head = log.head = _head_of(exchange, self._policies.trust, planner, self._tracer, started)
        exchange.id_line = head.id_line

        # Deny addresses; match the route; check the stated length, and presence and age of the signature's headers.
        plan: Admission | Plan | Invalid = planner.admit(head, now)
        log.plan, log.counted = plan, "none"

        if isinstance(plan, Admission) and plan.rules.whole:
            # Refuse it unread when a limit that needs only the head is used up.
            if limiter.denies():
                buckets = planner.buckets_before_body(plan, now)
                decision = await limiter.denied(buckets)
                if decision is not None:
                    plan = Invalid(exceeded(decision), plan.rules, plan.subject, buckets)
            # Read the body, within the budget of the process.
            if decision is None:
                log.body = HeldBody(self._bodies)
                body = await log.body.read(exchange.receive, plan.rules.max_body, plan.rules.sender)

        # Verify the signature; find event type, session, workspace and costs in the body.
        if isinstance(plan, Admission):
            complete, large = planner.complete, body is not None and len(body) > _LARGE
            plan = log.plan = await beside(complete, plan, body, now) if large else complete(plan, body, now)

        # Answer the repeat of a send with what became of the first one: nothing is sent, so nothing is taken.
        send = None
        if plan.rules.sends and isinstance(plan, Plan):
            send = self._sends.digest_of(plan, head, body)
            joined = None if send is None else await self._sends.join(send, exchange)
            if joined is not None:
                return joined

        # Take from the limits: from all that apply, or, of a request that is wrong in itself, from those of its head.
        if decision is None:
            if plan.rules.holds and isinstance(plan, Plan):
                decision = await self._held.take(plan.buckets, len(body or b""), started, exchange)
            else:
                decision = await limiter.take(plan.buckets) if plan.buckets else PASS
            if decision.verdict == "unavailable" and plan.rules.relayed and isinstance(plan, Plan):
                decision = await self._decided_later(plan, decision, len(body or b""), started + plan.rules.sender.hold)
        log.limit = decision.limit
        log.counted = None if isinstance(plan, Plan) else "head" if plan.buckets else "none"
        if decision.levels:
            exchange.extra_lines = _limit_lines(self._policies, plan, decision)
        refusal = refusal_of(plan, decision)
        if refusal is not None:
            raise refusal
        if decision.verdict == "drop":
            return await _given(exchange.send, 202, {"status": "dropped", "limit": decision.limit})

        # Store it, or pass it on.
        assert isinstance(plan, Plan)
        destination, subject = plan.destination, plan.subject
        if isinstance(destination, ToRelay):
            webhook = Webhook(
                destination.endpoints,
                head,
                body or b"",
                plan.json,
                subject.event or "",
                subject.session,
                plan.rules.sender,
                (plan.rules.proof, plan.claim[0]) if plan.claim and plan.rules.proof else None,
            )
            if exchange.span is not None:
                receipt = await traced.accept(self._intake, exchange.span, webhook, decision, started)
            else:
                receipt = await self._intake.accept(webhook, decision, started)
            log.id = receipt.id
            return await _given(exchange.send, 202, receipt.fields(self._policies.store.promise))
        rules = plan.rules
        outgoing = UpstreamRequest(head, body, (), rules.headers, rules.idle, rules.max_body)
        if send is not None:
            return await self._sends.answer(send, plan, outgoing, exchange)
        if plan.queued:
            return await self._outbox.serve(plan, outgoing, exchange, started)
        return await self._pass_on(plan, outgoing, exchange)

    async def _decided_later(self, plan: Plan, decision: Decision, size: int, until: float) -> Decision:
        """What the limits say as soon as the store answers again, up to a moment (`time.monotonic`): a webhook that is
        refused may be lost."""
        if not self._hold.enter(size):
            return decision
        try:
            while decision.verdict == "unavailable" and time.monotonic() < until:
                await asyncio.sleep(_AGAIN)
                decision = await self._limiter.take(plan.buckets)
            return decision
        finally:
            self._hold.leave(size)

    def _pass_on(self, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange) -> Coroutine[Any, Any, int]:
        destination, division = plan.destination, self._division
        if isinstance(destination, ToUpstream):
            upstream = self._upstreams[destination.upstream]
            if division is not None and division.concerns(outgoing.head):
                return division.answer(outgoing.head, upstream, exchange)
            return _to_upstream(upstream, outgoing, exchange)
        return self._workers.answer(plan, outgoing, exchange)

    async def websocket(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application for WebSockets: the same steps, all of them before anything is opened upstream."""
        limits = self._policies.clients.websocket
        await serve_websocket(scope, receive, send, self._open, limits, combined=self._combined)

    async def _open(self, scope: MutableMapping[str, Any], log: WebSocketLogEntry) -> tuple[Head, Destination]:
        head = read_handshake(scope, self._policies.trust, self._planner.via, self._planner.prefixes)
        log.read(head)
        plan = self._planner.plan(head, b"", time.time(), websocket=True)
        subject = plan.subject
        log.route, log.event, log.session = plan.rules.name, subject.event, subject.session
        decision = await self._limiter.take(plan.buckets)
        log.limit = decision.limit
        refusal = exceeded(decision) if decision.verdict in ("drop", "hold") else refusal_of(plan, decision)
        if refusal is not None:
            refusal.lines = _limit_lines(self._policies, plan, decision)
            raise refusal
        assert isinstance(plan, Plan)
        if isinstance(plan.destination, ToUpstream):
            return head, self._websockets[plan.destination.upstream]
        return head, self._workers.websocket(subject.session or "")


def _limit_lines(policies: Policies, plan: Plan | Invalid, decision: Decision) -> list[bytes]:
    """The rate-limit fields of the answer."""
    wanted = policies.limit_headers
    if not decision.levels or not wanted:
        return []
    return header_lines(plan.buckets, decision.levels, decision.violated, wanted)


def _head_of(exchange: Exchange, trust: Trust, planner: Planner, tracer: tracing.Tracer | None, started: float) -> Head:
    """Where tracing is on, the request's span begins with it."""
    peer, via, prefixes = exchange.client, planner.via, planner.prefixes
    head = head_of(exchange.head, peer and peer[0], exchange.scheme, trust, via, prefixes, exchange.listener)
    if tracer is not None:
        traced.begin(tracer, exchange, head, started)
    return head


async def _to_upstream(pools: UpstreamClient, outgoing: UpstreamRequest, exchange: Exchange) -> int:
    client = Downstream(exchange)
    try:
        response = await pools.ask(outgoing, client)
        if not await pools.give(response, exchange, idle=outgoing.idle):
            broken_off(pools.upstream.name, outgoing.head, exchange)
        return response.status
    except http1.UpstreamError as error:
        raise refusal_for(error, pools.upstream.name) from None
    finally:
        client.close()


def _failed(plan: Admission | Plan | Invalid | None) -> Refusal | None:
    """How a webhook is refused that we could not handle, where its sender would not repeat it after a 500."""
    if plan is None or plan.rules.sender.status != 429:
        return None
    return plan.rules.sender.refusal("the request could not be handled; send it again", b"1")


async def _given(send: Send, status: int, value: object) -> int:
    await answer_json(send, status, value)
    return status
