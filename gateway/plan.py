"""What becomes of a request, decided from the policies, its head and its body. No I/O.

    head ── denied? host? route? length? signature headers? names in the head ──> Admission
    Admission, body ── signature, names and costs in the body, buckets ─────────> Plan
    wherever it ends before that ───────────────────────────────────────────────> Invalid

The edge, WebSockets, `sluice explain` and `sluice replay` all decide here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from gateway.limits.applicable import HOLD, OBSERVE, Bucket, Limits, Subject, cost_pointers, impossible
from gateway.limits.decide import Decision
from gateway.limits.headers import QUOTA_EXCEEDED
from gateway.policies import (
    Action,
    Policies,
    Route,
    ToRelay,
    ToUpstream,
    ToWorkers,
    can_apply,
    needs_only_head,
    queues_sends,
    reading_of_path,
)
from gateway.policies.routes import WITHOUT_SESSION, WORKERS_HEADERS
from gateway.problems import BadPath, too_large
from gateway.request import (
    Head,
    Json,
    Reading,
    json_if_any,
    name_from,
    parse_form,
    parse_json,
    reading_of,
    refuse_chain,
    refuse_host,
)
from gateway.routing import Match, Routes
from gateway.workers.calls import QUEUED, call_of
from gateway.workers.prefixes import UNKNOWN, prefixes_of
from sluice.http.client import Deadlines
from sluice.http.fields import FORWARDING
from sluice.http.problem import Refusal
from sluice.http.senders import USUAL, sender_of
from sluice.http.signatures import Claim, proof_of
from sluice.http.via import Via

_FORM: Final = b"application/x-www-form-urlencoded"
"""Existing workers read such bodies, too."""
_METHODS: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
DENIED: Final = "this address is denied (trust.deny)"


class RouteRules:
    """Of one route (None: of requests that match none) what need not be worked out for each request."""

    def __init__(self, policies: Policies, route: Route | None, limits: Limits, *, spread: bool) -> None:
        self.route = route
        self.name = route.path if route else "-"
        self.action = route.action if route else None
        self.to_workers = route is not None and isinstance(route.action, ToWorkers)
        self.relayed = route is not None and isinstance(route.action, ToRelay)
        self.needs_session = (
            route is not None and isinstance(route.action, ToWorkers) and route.action.how not in WITHOUT_SESSION
        )
        self.proof = proof_of(policies.signatures[route.verify]) if route and route.verify else None
        signature = policies.signatures[route.verify] if route and route.verify else None
        self.sender = sender_of(signature) if signature and self.relayed else USUAL
        self.reading = (
            reading_of(route, cost_pointers(policies.limits, route)) if route else Reading(False, None, False)
        )
        self.whole = self.reading.whole
        self.max_body = route.most(whole=self.whole) if route else 0
        self.headers = Deadlines(route.headers) if route and route.headers else None
        self.idle = Deadlines(route.idle) if route and route.idle else None
        self.headers_within = route.headers or WORKERS_HEADERS if route else WORKERS_HEADERS
        """Of requests to workers, in seconds."""
        self.names_something = route is not None and bool(route.event or route.session or route.workspace)
        self.limits = limits
        of_head = [limit for limit in policies.limits if needs_only_head(limit, route)]
        # What is refused for what it is can be neither delivered later nor dropped.
        refusing = [replace(limit, over="reject") for limit in of_head]
        self.limits_of_refused = Limits(refusing, policies.trust.lists, spread=spread)
        self.queues = route is not None and any(queues_sends(limit, route) for limit in policies.limits)
        """There may be sends among its requests that are stored, and given to their workers later."""
        over = ("reject", "hold" if self.relayed else "reject" if self.queues else "queue")
        self.holds = (
            route is not None
            and not self.relayed
            and any(limit.over == "hold" and not limit.observe and can_apply(limit, route) for limit in policies.limits)
        )
        """A limit may keep its requests waiting for tokens."""
        shields = policies.sessions.shields
        named = bool(policies.sessions.workers) and (shields.repeats or shields.bulk)
        self.sends = named and route is not None and isinstance(route.action, ToWorkers) and route.action.how == "owner"
        """There may be sends among its requests, which `gateway.workers.sends` looks after."""
        certain = [limit for limit in of_head if limit.observe or limit.over in over]
        self.limits_before_body = Limits(certain, policies.trust.lists, spread=spread)


class Invalid:
    """A request that is refused for what it is. It still takes from `buckets`, those that need only its head; when they
    have no tokens it is refused for that."""

    __slots__ = ("buckets", "refusal", "rules", "subject")

    def __init__(self, refusal: Refusal, rules: RouteRules, subject: Subject, buckets: list[Bucket]) -> None:
        self.refusal = refusal
        self.rules = rules
        self.subject = subject
        self.buckets = buckets


class Admission:
    """A request whose head is in order. `subject`: as far as the head names it."""

    __slots__ = ("captured", "claim", "head", "rules", "subject")

    def __init__(
        self, head: Head, rules: RouteRules, subject: Subject, captured: Mapping[str, str], claim: Claim | None
    ) -> None:
        self.head = head
        self.rules = rules
        self.subject = subject
        self.captured = captured
        self.claim = claim
        """What the headers of the signature say; None: the route asks for none."""


class Plan:
    """What is done with a request when its buckets have the tokens."""

    __slots__ = ("buckets", "claim", "destination", "json", "queued", "rules", "subject")

    def __init__(
        self,
        rules: RouteRules,
        subject: Subject,
        buckets: list[Bucket],
        destination: Action,
        json: Json | None,
        claim: Claim | None,
        queued: Sequence[Bucket] = (),
    ) -> None:
        self.rules = rules
        self.subject = subject
        self.buckets = buckets
        self.destination = destination
        self.json = json
        """The body, where something had to be found in it."""
        self.claim = claim
        """What has proven it; None: nothing had to."""
        self.queued = queued
        """Of a send that is stored: the buckets whose tokens it takes when it is given to its worker. Others: none."""


class Planner:
    """The policies, prepared for many requests."""

    def __init__(self, policies: Policies) -> None:
        spread = "+cluster://" in policies.store.url
        self.limits = Limits(policies.limits, policies.trust.lists, spread=spread)
        self.prefixes = prefixes_of(policies.sessions.workers)
        """What `head_of` takes off; None: no worker has one."""
        self.via = Via()
        self._deny = policies.trust.deny or None
        self._hosts = policies.trust.hosts
        by_path = [reading_of_path(policies.limits, route) for route in policies.routes]
        self._routes = Routes(policies.routes, by_path=by_path)
        named = {name for route in policies.routes for name in route.on}
        self._routes_on = {name: Routes(policies.routes, name, by_path) for name in named}
        """Those of listeners that routes are `on`; of any other, where no such route is, `_routes`."""
        self._routes_on |= {listener.name: Routes(()) for listener in policies.admin.listen}
        self._unmatched = RouteRules(policies, None, self.limits, spread=spread)
        self._rules = [RouteRules(policies, route, self.limits, spread=spread) for route in policies.routes]

    def plan(
        self, head: Head, body: bytes, now: float, *, verified: bool = True, websocket: bool = False
    ) -> Plan | Invalid:
        """Both steps at once, of a request that is there whole. Without `verified` a signature is not verified: where
        none of its headers is there the request is taken for a signed one."""
        rules = self.rules_of(head.method, head.path, head.listener)
        names = frozenset[bytes]() if rules.proof is None else rules.proof.names
        unsigned = not verified and not any(field.key in names for field in head.fields.all)
        admission = self.admit(head, now, signed=unsigned, websocket=websocket)
        if isinstance(admission, Invalid):
            return admission
        if not verified:
            admission.claim = None
        return self.complete(admission, body if len(body) <= rules.max_body else None, now)

    def rules_of(self, method: str, path: bytes, listener: str) -> RouteRules:
        """Of a request that is known by its target only, as in the access log."""
        try:
            match = self._routes_on.get(listener, self._routes).match(method, path)
        except BadPath:
            match = None
        return self._unmatched if match is None else self._rules[match.index]

    def admit(self, head: Head, now: float, *, signed: bool = False, websocket: bool = False) -> Admission | Invalid:
        """All that the head alone decides. `now`: Unix seconds; `signed`: it is taken for a signed one, unseen."""
        rules, subject = self._unmatched, Subject(head.client, None, None, False)
        if self._deny is not None and self._deny.holds(head.client.address, now):
            return Invalid(Refusal(403, DENIED), rules, subject, [])
        try:
            match = self._match(head)
            rules = self._rules[match.index]
            route, captured = match.route, match.captured
            if websocket:
                _refuse_handshake(route, rules.reading)
            if rules.names_something:
                _name(subject, route, head, captured, None)
            if (head.length or 0) > rules.max_body:
                raise too_large(f"is {head.length} bytes", rules.max_body)
            claim = None
            if rules.proof is not None and not signed:
                found = rules.proof.claim(head.headers, now)
                if isinstance(found, str):
                    raise Refusal(401, found)
                claim = found
        except Refusal as refusal:
            return self._invalid(refusal, rules, subject, now)
        subject.relayed = rules.relayed
        return Admission(head, rules, subject, captured, claim)

    def complete(self, admission: Admission, body: bytes | None, now: float) -> Plan | Invalid:
        """All that is left to decide. `body` None: it turned out too large, or is not read for this route."""
        rules, subject = admission.rules, admission.subject
        route, action = rules.route, rules.action
        assert route is not None
        assert action is not None
        try:
            json = None
            if rules.whole:
                if body is None:
                    raise too_large(f"is over {rules.max_body} bytes", rules.max_body)
                json = _read(admission, body)
                if rules.reading.json:
                    _name(subject, route, admission.head, admission.captured, json)
            if rules.relayed and subject.event is None:
                raise Refusal(400, "the request names no event type where the route looks for it")
            if rules.needs_session and subject.session is None:
                raise Refusal(400, "the request names no session where the route looks for it")
            buckets = rules.limits.buckets(subject, json, now)
            queued: Sequence[Bucket] = ()
            if rules.queues:
                buckets, queued = _queued(admission.head, buckets)
            never = impossible(buckets)
            if never is not None:
                held = f"limit {never.limit.id}, which holds {never.burst} at most"
                detail = f"this costs {never.cost} tokens of {held}; send fewer at once"
                raise Refusal(413, detail, limit=never.limit.id)
        except Refusal as refusal:
            return self._invalid(refusal, rules, subject, now)
        return Plan(rules, subject, buckets, action, json, admission.claim, queued)

    def buckets_before_body(self, admission: Admission, now: float) -> list[Bucket]:
        """Those that refuse a request for sure when they are used up, whatever is in its body."""
        return admission.rules.limits_before_body.buckets(admission.subject, None, now)

    def _match(self, head: Head) -> Match:
        refuse_host(head, self._hosts)
        if head.fields.kinds & FORWARDING:
            refuse_chain(head)
            self.via.refuse_returned(head.fields)
        if head.method == "TRACE":
            raise self._trace(head)
        if self.prefixes is not None and head.worker is None and self.prefixes.is_unknown(head.path):
            raise Refusal(404, UNKNOWN)
        try:
            match = self._routes_on.get(head.listener, self._routes).match(head.method, head.path)
        except BadPath as error:
            raise Refusal(400, str(error)) from None
        if match is None:
            raise Refusal(404, "no route of policies.yaml matches")
        return match

    def _trace(self, head: Head) -> Refusal:
        """Of no use behind a gateway, and it would show what we say beside the client's own fields (RFC 9110 section
        9.3.8). nginx refuses it with 405, too."""
        allowed = [
            method for method in _METHODS if self.rules_of(method, head.path, head.listener) is not self._unmatched
        ]
        refusal = Refusal(405, "TRACE is refused for every path")
        refusal.lines = [b"allow: %b\r\n" % ", ".join(allowed).encode()]
        return refusal

    def _invalid(self, refusal: Refusal, rules: RouteRules, subject: Subject, now: float) -> Invalid:
        return Invalid(refusal, rules, subject, rules.limits_of_refused.buckets(subject, None, now))


def _queued(head: Head, buckets: list[Bucket]) -> tuple[list[Bucket], Sequence[Bucket]]:
    """The buckets that decide now, and those that give their tokens when the send is given to its worker. A bulk-send
    is given piece by piece, and nothing may cost more than a full bucket has."""
    if head.method != "POST" or call_of("POST", head.path) not in QUEUED:
        return buckets, ()
    now: list[Bucket] = []
    later: list[Bucket] = []
    for bucket in buckets:
        if bucket.limit.over != "queue" or bucket.mode == OBSERVE:
            now.append(bucket)
            continue
        bucket.mode = HOLD
        bucket.cost = min(bucket.cost, bucket.burst)
        later.append(bucket)
    return now, later


def refusal_of(plan: Plan | Invalid, decision: Decision) -> Refusal | None:
    """How a request is refused after its limits have decided; None: it goes on, or is dropped."""
    verdict = decision.verdict
    if verdict == "reject":
        return exceeded(decision)
    if isinstance(plan, Invalid):
        return plan.refusal
    if verdict == "hold":
        detail = f"limit {decision.limit} is used up, and has been for as long as its requests can wait"
        return Refusal(503, detail, retry_after=retry_after(decision.retry_after), limit=decision.limit)
    if verdict == "unavailable":
        wait = retry_after(decision.retry_after)
        return plan.rules.sender.refusal(f"limit {decision.limit} cannot be decided right now", wait)
    return None


def exceeded(decision: Decision) -> Refusal:
    """As draft-ietf-httpapi-ratelimit-headers has it."""
    return Refusal(
        429,
        f"limit {decision.limit} is used up",
        retry_after=retry_after(decision.retry_after),
        type=QUOTA_EXCEEDED,
        title="Quota exceeded",
        limit=decision.limit,
        **{"violated-policies": decision.violated},
    )


def retry_after(seconds: float) -> bytes:
    """Whole seconds, one at least (RFC 9110 section 10.2.3)."""
    return b"%d" % max(1, math.ceil(seconds))


def _read(admission: Admission, body: bytes) -> Json | None:
    """What is in a body. Raises Refusal 400 or 401."""
    rules = admission.rules
    if rules.proof is not None and admission.claim is not None:
        refused = rules.proof.refusal(admission.claim, body)
        if refused:
            raise Refusal(401, refused)
    if rules.reading.json:
        if rules.to_workers and (admission.head.value(b"content-type") or b"").lower().startswith(_FORM):
            return parse_form(body)
        return parse_json(body, rules.reading.json)
    return json_if_any(body) if rules.reading.cost else None


def _name(subject: Subject, route: Route, head: Head, captured: Mapping[str, str], json: Json | None) -> None:
    """What the request is about, as far as it is not known yet. `json` None: the body is not read yet."""
    if subject.event is None:
        subject.event = name_from(route.event, head, captured, json, "event type")
    if subject.session is None:
        subject.session = name_from(route.session, head, captured, json, "session")
    if subject.workspace is None and route.workspace is not None:
        subject.workspace = name_from(route.workspace, head, captured, json, "workspace")


def _refuse_handshake(route: Route, reading: Reading) -> None:
    action = route.action
    if not isinstance(action, ToUpstream) and not (isinstance(action, ToWorkers) and action.how == "owner"):
        detail = "WebSockets are passed on to upstreams and to owners of sessions (`upstream:`, `workers: owner`) only"
        raise Refusal(501, detail)
    if route.verify:
        raise Refusal(400, "this route takes signed requests only (`verify:`), and a WebSocket has no body to sign")
    if reading.json:
        raise Refusal(400, f"{reading.json}: from a body, which a WebSocket does not have")
