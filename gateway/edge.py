"""The edge: what becomes of a request, step by step.

who is the client -> denied? -> which route -> signed? -> which event, which session -> limits -> where to
"""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from gateway.buckets import Limits, Subject
from gateway.guard import UpstreamGuard
from gateway.intake import Intake
from gateway.limiter import Decision, Limiter, retry_after_header
from gateway.owners import WorkerProxy
from gateway.problems import Receive, Refusal, Send, answer_json, answer_refusal
from gateway.proxy import Downstream, Outgoing, UpstreamPools, give, refusal_for
from gateway.request import ClientGone, Head, Json, name_from, needs_json, parse_json, read_body, read_head
from gateway.routes import BadPath, Match, Routes
from gateway.websocket import Talk, WebSocketUpstream, read_handshake, upstream_of
from gateway.websocket import serve as serve_websocket
from runtime import http1, metrics
from runtime.logs import Log
from runtime.policies import Policies, Route, ToRelay, ToUpstream, ToWorkers, Upstream
from runtime.signatures import refusal as signature_refusal
from runtime.store import StoreAway, StoreRefused
from sessions.registry import Registry

LOG = Log("gateway")
_CLIENT_GONE = 499  # nginx's number; never sent, only counted and logged


@dataclass(slots=True)
class Seen:
    """What the log line of a request tells."""

    route: str = "-"
    client: str = "-"
    event: str | None = None
    session: str | None = None
    limit: str | None = None
    status: int = 0
    id: str | None = None
    why: str | None = None


class Edge:
    """The ASGI application for everything that is not `/_sluice/`."""

    def __init__(
        self, policies: Policies, limiter: Limiter, intake: Intake, registry: Registry, workers: WorkerProxy
    ) -> None:
        self._policies = policies
        self._routes = Routes(policies.routes)
        self._limits = Limits(policies.limits, policies.trust.lists)
        self._limiter = limiter
        self._intake = intake
        self._registry = registry
        self._workers = workers
        self._upstreams = {name: UpstreamPools(it, _guard(it)) for name, it in policies.upstreams.items()}
        self._websockets = {name: WebSocketUpstream(upstream) for name, upstream in policies.upstreams.items()}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        seen = Seen()
        try:
            seen.status = await self._answer(scope, receive, send, seen)
        except Refusal as refusal:
            seen.status, seen.why = refusal.status, refusal.detail
            await answer_refusal(send, refusal)
        except ClientGone:
            seen.status = _CLIENT_GONE
        finally:
            _tell(scope, seen, time.perf_counter() - started)

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send, seen: Seen) -> int:
        head = read_head(scope, self._policies.trust)
        seen.client = head.client.text
        if head.client.is_in(self._policies.trust.deny):
            raise Refusal(403, "this address is denied (trust.deny)")
        match = self._match(head)
        route = match.route
        seen.route = route.path
        body, json = await self._body(head, route, receive)
        event = name_from(route.event, head, match.captured, json, "event type")
        session = name_from(route.session, head, match.captured, json, "session")
        seen.event, seen.session = event, session
        _refuse_incomplete(route, event, session)
        decision = await self._decide(head, route, event, session, seen)
        if decision.verdict == "drop":
            return await _given(send, 202, {"status": "dropped", "limit": decision.limit})
        outgoing, client = Outgoing(head, head.forwarded(), body), Downstream(scope, receive)
        match route.action:
            case ToRelay(endpoint):
                accepted = await self._intake.accept(endpoint, head, body or b"", json, event or "", session, decision)
                seen.id = accepted.id
                told = {"status": "queued", "id": accepted.id, "promise": self._policies.store.promise}
                return await _given(send, 202, told | ({"repeat": True} if accepted.repeat else {}))
            case ToUpstream(name):
                return await self._to_upstream(name, outgoing, client, send)
            case ToWorkers("list"):
                return await self._list_sessions(send)
            case ToWorkers("owner"):
                return await self._workers.to_owner(session or "", outgoing, client, send)
            case ToWorkers():
                return await self._workers.to_placed(session or "", _about(json), outgoing, client, send)

    async def websocket(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application for WebSockets: the same steps, all of them before anything is opened upstream."""
        await serve_websocket(scope, receive, send, self._admit)

    async def _admit(self, scope: MutableMapping[str, Any], talk: Talk) -> tuple[Head, WebSocketUpstream]:
        head = read_handshake(scope, self._policies.trust)
        talk.client = head.client.text
        if head.client.is_in(self._policies.trust.deny):
            raise Refusal(403, "this address is denied (trust.deny)")
        match = self._match(head)
        route = match.route
        talk.route = route.path
        name = upstream_of(route)
        talk.event = name_from(route.event, head, match.captured, None, "event type")
        talk.session = name_from(route.session, head, match.captured, None, "session")
        decision = await self._decide(head, route, talk.event, talk.session, talk)
        if decision.verdict == "drop":
            wait = retry_after_header(decision.retry_after)
            raise Refusal(429, f"limit {decision.limit} is used up", retry_after=wait, limit=decision.limit)
        return head, self._websockets[name]

    def _match(self, head: Head) -> Match:
        try:
            match = self._routes.match(head.method, head.raw_path)
        except BadPath as error:
            raise Refusal(400, str(error)) from None
        if match is None:
            raise Refusal(404, "no route of policies.yaml matches")
        return match

    async def _body(self, head: Head, route: Route, receive: Receive) -> tuple[bytes | None, Json | None]:
        """The body and what is in it, where the route needs them; None: the body is streamed on."""
        why = needs_json(route.event, route.session)
        if not (why or route.verify or isinstance(route.action, (ToRelay, ToWorkers))):
            return None, None
        body = await read_body(head, receive, route.body)
        if route.verify:
            signature = self._policies.signatures[route.verify]
            refused = signature_refusal(signature, head.headers, body, time.time())
            if refused:
                raise Refusal(401, refused)
        return body, parse_json(body, why) if why else None

    async def _decide(
        self, head: Head, route: Route, event: str | None, session: str | None, seen: Seen | Talk
    ) -> Decision:
        subject = Subject(head.client, event, session, relayed=isinstance(route.action, ToRelay))
        decision = await self._limiter.take(self._limits.buckets(subject))
        seen.limit = decision.limit
        if decision.verdict == "reject":
            wait = retry_after_header(decision.retry_after)
            raise Refusal(429, f"limit {decision.limit} is used up", retry_after=wait, limit=decision.limit)
        if decision.verdict == "unavailable":
            wait = retry_after_header(decision.retry_after)
            raise Refusal(503, f"limit {decision.limit} cannot be decided right now", retry_after=wait)
        return decision

    async def _to_upstream(self, name: str, outgoing: Outgoing, client: Downstream, send: Send) -> int:
        pools = self._upstreams[name]
        try:
            exchange = await pools.ask(outgoing, client)
        except http1.UpstreamError as error:
            raise refusal_for(error, name) from None
        try:
            if not await give(exchange.response, pools.upstream.idle, send):
                LOG.warning("upstream.broke_off", upstream=name, path=outgoing.head.raw_path.decode("latin-1"))
            return exchange.response.status
        except http1.BadResponse as error:
            raise refusal_for(error, name) from None
        finally:
            exchange.close()

    async def _list_sessions(self, send: Send) -> int:
        try:
            rows = await self._registry.sessions()
        except (StoreAway, StoreRefused):
            raise Refusal(503, "the registry cannot be read right now", retry_after=b"1") from None
        sessions = [
            {
                "session_id": row.session,
                "workspace_id": row.workspace,
                "status": row.state,
                "phone_number": row.phone,
                "worker": row.worker,
            }
            for row in rows
        ]
        return await _given(send, 200, {"success": True, "sessions": sessions, "total": len(sessions)})

    async def close(self) -> None:
        for pools in self._upstreams.values():
            await pools.close()
        await self._workers.close()


def _guard(upstream: Upstream) -> UpstreamGuard:
    """A probe is lost only when it took longer than an upstream may take to answer."""
    lease = upstream.connect + upstream.headers + 5
    return UpstreamGuard(upstream.name, probe_lease=lease, shown=metrics.upstream_circuit)


def _refuse_incomplete(route: Route, event: str | None, session: str | None) -> None:
    if isinstance(route.action, ToRelay) and event is None:
        raise Refusal(400, "the request names no event type where the route looks for it")
    if isinstance(route.action, ToWorkers) and route.action.how != "list" and session is None:
        raise Refusal(400, "the request names no session where the route looks for it")


def _about(json: Json | None) -> dict[str, object]:
    """What is remembered of a session from the request that creates it. Never its api_key."""
    value = json.value if json else None
    wanted = ("workspace_id", "account_id", "priority")
    return {name: value[name] for name in wanted if name in value} if isinstance(value, Mapping) else {}


async def _given(send: Send, status: int, value: object) -> int:
    await answer_json(send, status, value)
    return status


def _tell(scope: MutableMapping[str, Any], seen: Seen, seconds: float) -> None:
    metrics.request(seen.route, seen.status, seconds)
    LOG.info(
        "request",
        method=scope["method"],
        path=scope["path"],
        route=seen.route,
        status=seen.status,
        ms=round(seconds * 1000, 2),
        client=seen.client,
        event=seen.event,
        session=seen.session,
        limit=seen.limit,
        id=seen.id,
        why=seen.why,
    )
