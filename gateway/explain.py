"""What would become of a request, and why: the edge's own decisions, in words. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.limits.applicable import Bucket, Limits, Subject, cost_pointers, impossible
from gateway.policies import (
    Limit,
    Policies,
    Route,
    ToRelay,
    ToUpstream,
    ToWorkers,
    applies_to_event,
)
from gateway.problems import BadPath, Refusal
from gateway.request import Head, Json, head_of, json_if_any, name_from, parse_json, reading_of
from gateway.routing import Match, Routes
from sluice.http.server.head import read_head
from sluice.http.server.refused import Refused


@dataclass(frozen=True, slots=True)
class HypotheticalRequest:
    """A request that might come."""

    method: str
    target: str
    peer: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


@dataclass(slots=True)
class Explanation:
    """Filled as far as the request would get. `refused`: status and detail, where it would end before its limits."""

    client: str = ""
    route: str | None = None
    line: int | None = None
    where: str | None = None
    event: str | None = None
    session: str | None = None
    workspace: str | None = None
    notes: list[str] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)
    left_alone: dict[str, str] = field(default_factory=dict)
    """The limits that do not apply, and why."""
    refused: tuple[int, str] | None = None


def explain(policies: Policies, asked: HypotheticalRequest, now: float) -> Explanation:
    """`now`: Unix seconds."""
    told = Explanation()
    try:
        _explain(policies, asked, now, told)
    except (Refusal, Refused) as refusal:
        told.refused = (refusal.status, str(refusal))
    except BadPath as error:
        told.refused = (400, str(error))
    return told


def _explain(policies: Policies, asked: HypotheticalRequest, now: float, told: Explanation) -> None:
    head = _head(policies, asked)
    told.client = head.client.text
    if head.client.trusted_peer:
        told.notes.append(f"{asked.peer} is one of trust.proxies: its X-Forwarded-For is believed")
    elif any(name.lower().startswith("x-forwarded-") for name, _ in asked.headers):
        told.notes.append(f"{asked.peer} is not one of trust.proxies: its X-Forwarded-* are dropped")
    if policies.trust.deny.holds(head.client.address, now):
        raise Refusal(403, "this address is denied (trust.deny)")
    match = Routes(policies.routes).match(head.method, head.path)
    if match is None:
        raise Refusal(404, "no route of policies.yaml matches")
    route = match.route
    told.route, told.line, told.where = route.path, route.line, _where(route)
    told.notes += [
        f"{earlier.path} is for {', '.join(sorted(earlier.methods))}" for earlier in _same_path(policies, match, head)
    ]
    if route.verify:
        told.notes.append(f"it has to be signed as signatures.{route.verify} says; that is not looked at here")
    reading = reading_of(route, cost_pointers(policies.limits, route))
    json = parse_json(asked.body, reading.json) if reading.json else json_if_any(asked.body) if reading.cost else None
    subject = _subject(head, match.captured, route, json)
    told.event, told.session, told.workspace = subject.event, subject.session, subject.workspace
    told.buckets = Limits(policies.limits, policies.trust.lists).buckets(subject, json, now)
    met = {bucket.limit.id for bucket in told.buckets}
    told.left_alone = {
        limit.id: _why_not(limit, subject, policies, now) for limit in policies.limits if limit.id not in met
    }
    never = impossible(told.buckets)
    if never is not None:
        raise Refusal(
            413, f"this costs {never.cost} tokens of limit {never.limit.id}, which holds {never.burst} at most"
        )


def _head(policies: Policies, asked: HypotheticalRequest) -> Head:
    headers = [*asked.headers]
    if not any(name.lower() == "host" for name, _ in headers):
        headers.insert(0, ("Host", next(iter(policies.trust.hosts), policies.listen.host)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = read_head(f"{asked.method} {asked.target} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "replace"))
    return head_of(head, asked.peer, "http", policies.listen.port, policies.trust)


def _subject(head: Head, captured: Mapping[str, str], route: Route, json: Json | None) -> Subject:
    event = name_from(route.event, head, captured, json, "event type")
    session = name_from(route.session, head, captured, json, "session")
    workspace = name_from(route.workspace, head, captured, json, "workspace")
    return Subject(head.client, event, session, isinstance(route.action, ToRelay), workspace)


def _same_path(policies: Policies, match: Match, head: Head) -> list[Route]:
    """Earlier routes that would have matched but for the method."""
    return [
        route
        for route in policies.routes[: match.index]
        if route.methods and Routes([route]).match(min(route.methods), head.path) is not None
    ]


def _where(route: Route) -> str:
    match route.action:
        case ToUpstream(name):
            return f"passed on to upstream {name}"
        case ToRelay() as to:
            return f"stored, and delivered to {', '.join(to.endpoints)}"
        case ToWorkers("list"):
            return "answered from the registry"
        case ToWorkers("owner"):
            return "passed on to the worker that owns the session"
        case ToWorkers():
            return "passed on to a worker, on which the session is placed"


def _why_not(limit: Limit, subject: Subject, policies: Policies, now: float) -> str:
    if not applies_to_event(limit.events, subject.event):
        return f"is for {', '.join(limit.events)}"
    for name in limit.exempt:
        if policies.trust.lists[name].holds(subject.client.address, now):
            return f"leaves list {name} alone"
    values = {"session": subject.session, "workspace": subject.workspace, "event": subject.event, "ip": subject.client}
    missing = [by for by in limit.per if values[by] is None]
    return (
        f"counts per {' and '.join(missing)}, which this request has not" if missing else "is unlimited by an override"
    )
