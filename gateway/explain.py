"""What would become of a request, and why: the edge's own decisions, in words. No I/O."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.limits.applicable import Bucket, Subject
from gateway.limits.decide import PASS, Decision, decide
from gateway.outbox.pace import outside_hours
from gateway.plan import Invalid, Plan, Planner, refusal_of
from gateway.policies import Action, Limit, Policies, Route, ToRelay, ToUpstream, ToWorkers, applies_to_event
from gateway.request import Head, head_of
from gateway.routing import Routes
from sluice.config import Listen
from sluice.config.listening import Listener
from sluice.http.server.head import RequestHead, read_head
from sluice.http.server.refused import Refused


@dataclass(frozen=True, slots=True)
class HypotheticalRequest:
    """A request that might come."""

    method: str
    target: str
    peer: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    on: str = ""
    """The name of the listener that it would come to; empty: the first of `listen`."""


@dataclass(slots=True)
class Explanation:
    """Filled as far as the request would get."""

    plan: Plan | Invalid | Refused
    client: str = ""
    on: str | None = None
    """The listener, where there are several."""
    route: str | None = None
    line: int | None = None
    destination: str = ""
    subject: Subject | None = None
    signature: str | None = None
    """Which one the route asks for. Whether it matches is not checked here."""
    notes: list[str] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)
    on_refusal: list[str] = field(default_factory=list)
    """The limits that need only the head: a request that is refused with 400, 401, 404 or 413 takes from these."""
    not_applicable: dict[str, str] = field(default_factory=dict)
    """The other limits, and why they do not apply."""


def explain(policies: Policies, request: HypotheticalRequest, now: float) -> Explanation:
    """`now`: Unix seconds."""
    planner = Planner(policies)
    try:
        listener = _listener(policies, request.on)
        read, scheme = _read(policies, request, listener), "https" if listener.tls else "http"
        head = head_of(read, request.peer, scheme, policies.trust, planner.via, planner.prefixes, listener.name)
    except Refused as refused:
        return Explanation(refused)
    plan = planner.plan(head, request.body, now, verified=False)  # the secrets need not be here
    subject = plan.subject
    queued = plan.queued if isinstance(plan, Plan) else ()
    found = Explanation(plan, head.client.text, subject=subject, buckets=[*plan.buckets, *queued])
    if len(policies.listeners) > 1:
        found.on = head.listener
    found.notes += _about_forwarding(head, request)
    if head.worker is not None:
        found.notes.append(f"worker {head.worker} sends it, by its prefix, which is taken off")
    if plan.rules.route is not None:
        _describe_route(found, plan.rules.route, policies, head)
    if queued:
        found.destination = f"stored, and {found.destination}"
    if isinstance(plan, Plan):
        found.on_refusal = [bucket.limit.id for bucket in plan.rules.limits_of_refused.buckets(subject, None, now)]
    taken = {bucket.limit.id for bucket in found.buckets}
    found.not_applicable = {
        limit.id: _why_not(limit, plan, policies, now) for limit in policies.limits if limit.id not in taken
    }
    return found


def outcome(found: Explanation, levels: Sequence[float] | None) -> str:
    """What would come out, in words. `levels`: the tokens of each bucket; None: the store does not answer."""
    plan = found.plan
    if isinstance(plan, Refused):
        return f"{plan.status}: {plan}"
    decision = decide(plan.buckets, levels[: len(plan.buckets)]) if levels is not None else PASS
    if isinstance(plan, Plan) and decision.verdict == "hold" and decision.retry_after <= _held_for(plan, decision):
        return f"held for {decision.retry_after:.1f}s, if nobody waits already, then {found.destination}"
    refusal = refusal_of(plan, decision)
    if refusal is not None:
        wait = f"; Retry-After {refusal.retry_after.decode()}" if refusal.retry_after else ""
        return f"{refusal.status}: {refusal.detail}{wait}"
    if levels is None:
        return f"passes if its buckets have tokens (the store does not answer): {found.destination}"
    if decision.verdict == "drop":
        return f"202 dropped: limit {decision.limit} is used up"
    if isinstance(plan, Plan) and plan.queued:
        return f"{found.destination}, {_when(plan.queued, levels[len(plan.buckets) :], time.time())}"
    return f"{found.destination}, in {decision.delay:.1f}s" if decision.delay else found.destination


def _when(queued: Sequence[Bucket], levels: Sequence[float], now: float) -> str:
    """When a stored send goes to its worker, if none waits before it, and what its caller is told by then."""
    not_yet = outside_hours(queued, now)
    if not_yet is not None:
        return f"not yet, as {not_yet.why}; 202 with our id"
    decision, hold = decide(queued, levels), min(bucket.limit.hold for bucket in queued)
    if decision.verdict == "pass":
        return "at once, if none of its session waits"
    answered = "" if decision.retry_after < hold else "; 202 with our id"
    return f"in {decision.retry_after:.1f}s, if none of its session waits{answered}"


def _held_for(plan: Plan, decision: Decision) -> float:
    return min(bucket.limit.hold for bucket in plan.buckets if bucket.limit.id in decision.violated)


def _listener(policies: Policies, name: str) -> Listener:
    return next((one for one in policies.listeners if one.name == name), policies.listen[0])


def _read(policies: Policies, request: HypotheticalRequest, listener: Listener) -> RequestHead:
    """Raises Refused."""
    headers = [*request.headers]
    names = {name.lower() for name, _ in headers}
    if "host" not in names:
        here = listener.address.host if isinstance(listener.address, Listen) else "localhost"
        headers.insert(0, ("Host", next(iter(policies.trust.hosts), here)))
    if request.body and not names & {"content-length", "transfer-encoding"}:
        headers.append(("Content-Length", str(len(request.body))))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return read_head(f"{request.method} {request.target} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "replace"))


def _about_forwarding(head: Head, request: HypotheticalRequest) -> list[str]:
    if head.client.trusted_peer:
        return [f"{request.peer} is one of trust.proxies: its X-Forwarded-For is believed"]
    if any(name.lower().startswith("x-forwarded-") for name, _ in request.headers):
        return [f"{request.peer} is not one of trust.proxies: its X-Forwarded-* are dropped"]
    return []


def _describe_route(found: Explanation, route: Route, policies: Policies, head: Head) -> None:
    found.route, found.line, found.destination = route.path, route.line, _destination(route.action)
    found.signature = route.verify
    found.notes += [
        f"{earlier.path} is for {', '.join(sorted(earlier.methods))}"
        for earlier in policies.routes[: policies.routes.index(route)]
        if earlier.methods and Routes([earlier], head.listener).match(min(earlier.methods), head.path) is not None
    ]


def _destination(action: Action) -> str:
    match action:
        case ToUpstream(name):
            return f"passed on to upstream {name}"
        case ToRelay() as to:
            return f"stored, and delivered to {', '.join(to.endpoints)}"
        case ToWorkers("list"):
            return "answered from the registry"
        case ToWorkers("health"):
            return "answered by the gateway, for all workers together"
        case ToWorkers("any"):
            return "passed on to a worker, whichever is live"
        case ToWorkers("owner"):
            return "passed on to the worker that owns the session"
        case ToWorkers():
            return "passed on to a worker, on which the session is placed"


def _why_not(limit: Limit, plan: Plan | Invalid, policies: Policies, now: float) -> str:
    subject = plan.subject
    if not applies_to_event(limit.events, subject.event):
        return f"is for {', '.join(limit.events)}"
    for name in limit.exempt:
        if policies.trust.lists[name].holds(subject.client.address, now):
            return f"does not apply to list {name}"
    values = {"session": subject.session, "workspace": subject.workspace, "event": subject.event, "ip": subject.client}
    missing = [by for by in limit.per if values[by] is None]
    if missing:
        return f"counts per {' and '.join(missing)}, which this request does not name"
    if isinstance(plan, Invalid):
        return "does not count a request that is refused for what it is"
    return "is unlimited by an override"
