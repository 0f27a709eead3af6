"""Which limits a route's requests can meet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gateway.policies.limits import Limit
from gateway.policies.overrides import Per
from gateway.policies.routes import Fixed, JsonPointer, Route, ToUpstream


def applies_to_event(patterns: Sequence[str], event: str | None) -> bool:
    """Whether a limit with these events is about a request with this one. Without any it is about every request."""
    return not patterns or (event is not None and any(fnmatchcase(event, pattern) for pattern in patterns))


def can_be_about(limit: Limit, route: Route) -> bool:
    """An event type that is read from the request can be any."""
    if isinstance(route.event, Fixed):
        return applies_to_event(limit.events, route.event.value)
    return route.event is not None or not limit.events


def can_apply(limit: Limit, route: Route) -> bool:
    """Whether a request of the route can ever take from a bucket of the limit."""
    return can_be_about(limit, route) and all(provides(route, subject) for subject in limit.per)


def streams(route: Route) -> bool:
    """Whether bodies go on as they come, unless a limit looks into them for what a request costs."""
    looks_inside = any(isinstance(source, JsonPointer) for source in (route.event, route.session, route.workspace))
    return isinstance(route.action, ToUpstream) and route.verify is None and not looks_inside


def needs_only_head(limit: Limit, route: Route | None) -> bool:
    """Whether the buckets of a request are known before its body is read. `route` None: it matches none.

    A session or workspace that a signed request names is known when the signature has been verified: a stranger must
    not be able to spend its tokens.
    """
    if isinstance(limit.cost, JsonPointer):
        return False
    if route is None:
        return not limit.events and set(limit.per) <= {"ip"}
    needed = {*limit.per, *(override.by for override in limit.overrides), *(["event"] if limit.events else [])}
    sources = {"session": route.session, "workspace": route.workspace, "event": route.event}
    return not any(
        isinstance(source, JsonPointer) or (route.verify and name != "event" and source is not None)
        for name, source in sources.items()
        if name in needed
    )


def provides(route: Route, subject: Per) -> bool:
    sources = {"session": route.session, "workspace": route.workspace, "event": route.event}
    return subject == "ip" or sources[subject] is not None
