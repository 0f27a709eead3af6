"""The edge: what becomes of a request, step by step.

who is the client -> denied? -> which route -> signed? -> which event, which session -> limits -> where to
"""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from gateway.ingest.webhooks import Ingest
from gateway.limits.applicable import Limits, Subject, cost_pointers, impossible
from gateway.limits.headers import QUOTA_EXCEEDED, header_lines
from gateway.limits.limiter import Decision, Limiter, retry_after_header
from gateway.owners import WorkerProxy
from gateway.policies import (
    Policies,
    Route,
    ToRelay,
    ToUpstream,
    ToWorkers,
)
from gateway.problems import BadPath, ClientGone, Receive, Refusal, Send, answer_json, answer_refusal
from gateway.proxy.upstream import Downstream, UpstreamClient, UpstreamRequest, refusal_for
from gateway.proxy.websocket import WebSocketLogEntry, WebSocketUpstream, read_handshake, upstream_of
from gateway.proxy.websocket import serve as serve_websocket
from gateway.request import (
    Head,
    Json,
    Reading,
    head_of,
    json_if_any,
    name_from,
    parse_json,
    read_body,
    reading_of,
)
from gateway.routing import Match, Routes
from sessions.registry import Registry
from sluice.http import client as http1
from sluice.http.server import Cycle
from sluice.http.server import metrics as server_metrics
from sluice.http.signatures import refusal as signature_refusal
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("gateway")
_CLIENT_GONE = 499  # nginx's number; never sent, only counted and logged


class AccessLogEntry:
    """What the log line of a request tells. What most requests never set stays with the class."""

    route: str = "-"
    client: str = "-"
    event: str | None = None
    session: str | None = None
    limit: str | None = None
    status: int = 0
    id: str | None = None
    why: str | None = None


class Edge:
    """Answers everything that is not `/_sluice/`."""

    def __init__(
        self,
        policies: Policies,
        limiter: Limiter,
        intake: Ingest,
        registry: Registry,
        workers: WorkerProxy,
        upstreams: Mapping[str, UpstreamClient],
        websockets: Mapping[str, WebSocketUpstream],
    ) -> None:
        self._policies = policies
        self._routes = Routes(policies.routes)
        spread = "+cluster://" in policies.store.url
        self._limits = Limits(policies.limits, policies.trust.lists, spread=spread)
        self._readings = [reading_of(route, cost_pointers(policies.limits, route)) for route in policies.routes]
        self._limiter = limiter
        self._intake = intake
        self._registry = registry
        self._workers = workers
        self._upstreams = upstreams
        self._websockets = websockets

    async def answer(self, cycle: Cycle) -> None:
        """One request, to the end of its answer."""
        started = time.perf_counter()
        seen = AccessLogEntry()
        try:
            seen.status = await self._answer(cycle, seen)
        except Refusal as refusal:
            seen.status, seen.why = refusal.status, refusal.detail
            await answer_refusal(cycle.send, refusal)
        except ClientGone:
            seen.status = _CLIENT_GONE
        finally:
            _tell(cycle, seen, time.perf_counter() - started)

    async def _answer(self, cycle: Cycle, seen: AccessLogEntry) -> int:
        peer, server = cycle.client, cycle.server
        head = head_of(cycle.head, peer and peer[0], cycle.scheme, (server and server[1]) or 0, self._policies.trust)
        match = self._admit(head, seen)
        route, reading = match.route, self._readings[match.index]
        body, json = await self._body(head, route, reading, cycle.receive) if reading.whole else (None, None)
        subject = _subject(head, match, json, seen)
        event, session = subject.event, subject.session
        _refuse_incomplete(route, event, session)
        decision = await self._decide(subject, json, seen, cycle)
        if decision.verdict == "drop":
            return await _given(cycle.send, 202, {"status": "dropped", "limit": decision.limit})
        match route.action:
            case ToUpstream(name):
                return await self._to_upstream(self._upstreams[name], UpstreamRequest(head, body), cycle)
            case ToRelay() as to:
                taken = await self._intake.accept(to.endpoints, head, body or b"", json, event or "", session, decision)
                seen.id = taken.id
                return await _given(cycle.send, 202, taken.fields(self._policies.store.promise))
            case ToWorkers("list"):
                return await self._list_sessions(cycle.send)
            case ToWorkers("owner"):
                return await self._workers.to_owner(session or "", UpstreamRequest(head, body), cycle)
            case ToWorkers():
                return await self._workers.to_placed(session or "", _about(json), UpstreamRequest(head, body), cycle)

    async def websocket(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application for WebSockets: the same steps, all of them before anything is opened upstream."""
        await serve_websocket(scope, receive, send, self._open)

    async def _open(self, scope: MutableMapping[str, Any], talk: WebSocketLogEntry) -> tuple[Head, WebSocketUpstream]:
        head = read_handshake(scope, self._policies.trust)
        match = self._admit(head, talk)
        name = upstream_of(match.route, self._readings[match.index])
        decision = await self._decide(_subject(head, match, None, talk), None, talk, None)
        if decision.verdict == "drop":
            raise _exceeded(decision)
        return head, self._websockets[name]

    def _admit(self, head: Head, seen: AccessLogEntry | WebSocketLogEntry) -> Match:
        """The route of a request that is not denied. Raises Refusal: 403, 400, 404."""
        seen.client = head.client.text
        deny = self._policies.trust.deny
        if deny and deny.holds(head.client.address, time.time()):
            raise Refusal(403, "this address is denied (trust.deny)")
        try:
            match = self._routes.match(head.method, head.path)
        except BadPath as error:
            raise Refusal(400, str(error)) from None
        if match is None:
            raise Refusal(404, "no route of policies.yaml matches")
        seen.route = match.route.path
        return match

    async def _body(self, head: Head, route: Route, reading: Reading, receive: Receive) -> tuple[bytes, Json | None]:
        """The body, and what is in it where somebody looks into it. Raises Refusal: 400, 401, 413."""
        body = await read_body(head, receive, route.body)
        if route.verify:
            signature = self._policies.signatures[route.verify]
            refused = signature_refusal(signature, head.headers, body, time.time())
            if refused:
                raise Refusal(401, refused)
        if reading.json:
            return body, parse_json(body, reading.json)
        return body, json_if_any(body) if reading.cost else None

    async def _decide(
        self, subject: Subject, json: Json | None, seen: AccessLogEntry | WebSocketLogEntry, cycle: Cycle | None
    ) -> Decision:
        """`cycle`: whose answer tells how the limits stand. Raises Refusal 413, 429 or 503 for what may not pass."""
        buckets = self._limits.buckets(subject, json)
        never = impossible(buckets)
        if never is not None:
            held = f"limit {never.limit.id}, which holds {never.burst} at most"
            raise Refusal(413, f"this costs {never.cost} tokens of {held}; send fewer at once", limit=never.limit.id)
        decision = await self._limiter.take(buckets)
        seen.limit = decision.limit
        if cycle is not None and decision.levels and self._policies.limit_headers:
            cycle.also = header_lines(buckets, decision.levels, decision.violated, self._policies.limit_headers)
        if decision.verdict == "reject":
            raise _exceeded(decision)
        if decision.verdict == "unavailable":
            wait = retry_after_header(decision.retry_after)
            raise Refusal(503, f"limit {decision.limit} cannot be decided right now", retry_after=wait)
        return decision

    async def _to_upstream(self, pools: UpstreamClient, outgoing: UpstreamRequest, cycle: Cycle) -> int:
        client = Downstream(cycle)
        try:
            response = await pools.ask(outgoing, client)
            if not await pools.give(response, cycle):
                LOG.warning("upstream.broke_off", upstream=pools.upstream.name, path=outgoing.head.path.decode())
            return response.status
        except http1.UpstreamError as error:
            raise refusal_for(error, pools.upstream.name) from None
        finally:
            client.close()

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


def _exceeded(decision: Decision) -> Refusal:
    """As draft-ietf-httpapi-ratelimit-headers has it."""
    return Refusal(
        429,
        f"limit {decision.limit} is used up",
        retry_after=retry_after_header(decision.retry_after),
        type=QUOTA_EXCEEDED,
        title="Quota exceeded",
        limit=decision.limit,
        **{"violated-policies": decision.violated},
    )


def _subject(head: Head, match: Match, json: Json | None, seen: AccessLogEntry | WebSocketLogEntry) -> Subject:
    """What the request is about. Raises Refusal 400 for a name that cannot be one."""
    route, captured = match.route, match.captured
    event = seen.event = name_from(route.event, head, captured, json, "event type")
    session = seen.session = name_from(route.session, head, captured, json, "session")
    workspace = name_from(route.workspace, head, captured, json, "workspace") if route.workspace else None
    return Subject(head.client, event, session, isinstance(route.action, ToRelay), workspace)


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


def _tell(cycle: Cycle, seen: AccessLogEntry, seconds: float) -> None:
    server_metrics.request(seen.route, seen.status, seconds)
    LOG.line(
        "request",
        {
            "method": cycle.head.method.decode(),
            "path": cycle.head.target.partition(b"?")[0].decode(),
            "route": seen.route,
            "status": seen.status,
            "ms": round(seconds * 1000, 2),
            "client": seen.client,
            "event": seen.event,
            "session": seen.session,
            "limit": seen.limit,
            "id": seen.id,
            "why": seen.why,
        },
    )
