"""What would become of a request, by the policies in force and by how full its buckets are now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

from gateway.explain import Explanation, HypotheticalRequest, explain, outcome
from gateway.limits.applicable import DELAY, HOLD, OBSERVE, REFUSE, Bucket
from gateway.limits.take import levels_of
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, invalid, not_found
from sluice.http.decode import Bounds
from sluice.store.client import Store, StoreAway, StoreRefused

_MODES = {
    REFUSE: "enforced",
    DELAY: "queued when it is used up",
    OBSERVE: "only observed",
    HOLD: "held when it is used up",
}


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """A request that might come."""

    path: Annotated[str, Bounds(1, 8000)]
    """With its query."""
    method: Annotated[str, Bounds(1, 40)] = "GET"
    ip: Annotated[str, Bounds(1, 45)] = "127.0.0.1"
    """Who asks."""
    on: Annotated[str, Bounds(0, 200)] = ""
    """The listener that it comes to; empty: the first."""
    headers: Annotated[tuple[str, ...], Bounds(0, 100)] = ()
    """Each as `Name: value`."""
    body: Annotated[str, Bounds(0, 50_000)] = ""


@dataclass(frozen=True, slots=True)
class SignatureAsked:
    name: str
    checked: bool
    """False: whether it matches is not looked at."""


@dataclass(frozen=True, slots=True)
class LimitMet:
    id: str
    how: str
    burst: int
    seconds_for_one: float
    cost: int
    level: float | None
    """Tokens that are there; null: the store does not answer."""


@dataclass(frozen=True, slots=True)
class ExplainedRequest:
    """As far as it would get."""

    client: str
    on: str | None
    """The listener, where there are several."""
    route: str | None
    line: int | None
    where: str | None
    event: str | None
    session: str | None
    workspace: str | None
    notes: tuple[str, ...]
    signature: SignatureAsked | None
    limits: tuple[LimitMet, ...]
    not_met: Mapping[str, str]
    """The other limits, and why they do not apply."""
    on_refusal: tuple[str, ...]
    """The limits from which it takes also when it is refused with 400, 401, 404 or 413."""
    outcome: str


async def explain_request(deployment: Deployment, request: ExplainRequest) -> ExplainedRequest | Problem:
    """Which route, limits and buckets it would meet, how full those are, and what would come out. It takes nothing."""
    made = _hypothetical(request)
    if isinstance(made, Problem):
        return made
    known = [listener.name for listener in deployment.policies.listeners]
    if made.on and made.on not in known:
        return not_found(f"on: no listener is called {quoted(made.on)}; there are: {', '.join(known)}")
    found = explain(deployment.policies, made, time.time())
    levels = await _levels(deployment.store, found.buckets)
    subject = found.subject
    return ExplainedRequest(
        client=found.client,
        on=found.on,
        route=found.route,
        line=found.line,
        where=found.destination or None,
        event=subject.event if subject else None,
        session=subject.session if subject else None,
        workspace=subject.workspace if subject else None,
        notes=tuple(found.notes),
        signature=SignatureAsked(found.signature, checked=False) if found.signature else None,
        limits=_met(found, levels),
        not_met=found.not_applicable,
        on_refusal=tuple(found.on_refusal),
        outcome=outcome(found, levels),
    )


def _hypothetical(request: ExplainRequest) -> HypotheticalRequest | Problem:
    if not request.path.startswith("/"):
        return invalid(f"path: {quoted(request.path)} does not begin with /")
    try:
        address = str(ip_address(request.ip))
    except ValueError:
        return invalid(f"ip: {quoted(request.ip)} is not an address; write 203.0.113.7 or 2001:db8::1")
    headers = []
    for line in request.headers:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            return invalid(f"headers: {quoted(line)} is not a header; write Name: value")
        headers.append((name.strip(), value.strip()))
    return HypotheticalRequest(
        request.method.upper(), request.path, address, tuple(headers), request.body.encode(), request.on
    )


async def _levels(store: Store, buckets: Sequence[Bucket]) -> list[float] | None:
    """None: the store does not answer, so nobody knows."""
    if not buckets:
        return []
    try:
        return await levels_of(store, buckets)
    except (StoreAway, StoreRefused):
        return None


def _met(found: Explanation, levels: Sequence[float] | None) -> tuple[LimitMet, ...]:
    return tuple(
        LimitMet(
            bucket.limit.id,
            _mode(bucket),
            bucket.burst,
            bucket.interval,
            bucket.cost,
            None if levels is None else levels[i],
        )
        for i, bucket in enumerate(found.buckets)
    )


def _mode(bucket: Bucket) -> str:
    queued = bucket.mode == HOLD and bucket.limit.over == "queue"
    return _MODES[DELAY if queued else bucket.mode]
