"""Which limits a route's requests can meet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from gateway.policies.limits import Limit
from gateway.policies.overrides import Per
from gateway.policies.routes import Fixed, JsonPointer, PathSegment, Route, ToRelay, ToUpstream, ToWorkers


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


def takes_sends(route: Route) -> bool:
    """Whether there may be sends among its requests: they are for a session's owner."""
    action = route.action
    return isinstance(action, ToWorkers) and action.how == "owner" and (not route.methods or "POST" in route.methods)


def queues_sends(limit: Limit, route: Route) -> bool:
    """Whether sends of the route that meet the limit are stored, and given to their workers at its pace."""
    return limit.over == "queue" and not limit.observe and takes_sends(route) and can_apply(limit, route)


def streams(route: Route) -> bool:
    """Whether bodies go on as they come, unless a limit looks into them for what a request costs."""
    looks_inside = any(isinstance(source, JsonPointer) for source in (route.event, route.session, route.workspace))
    return isinstance(route.action, ToUpstream) and route.verify is None and not looks_inside


ReadingOfPath = Literal["here", "whole", "match", "any"]


def reading_of_path(limits: Sequence[Limit], route: Route) -> ReadingOfPath:
    """What of a request depends on how its path is read.

    here   nothing behind us: the gateway answers it, or stores it for a sender who has proven himself
    whole  all of it: a worker reads the same path, and the gateway acts upon what it will understand
    match  the route, and the names in it: they say whose limits it meets, or that it has to be signed
    any    nothing, or the policies say that it may be read in any way (`ambiguous_paths: allow`)
    """
    action = route.action
    if (isinstance(action, ToWorkers) and action.how in ("list", "health")) or (
        isinstance(action, ToRelay) and route.verify
    ):
        return "here"
    if route.ambiguous_paths:
        return "any"
    if isinstance(action, ToWorkers):
        return "whole"
    named = isinstance(route.session, PathSegment) or isinstance(route.workspace, PathSegment)
    limited = isinstance(route.event, Fixed) and any(
        limit.events and not limit.observe and can_apply(limit, route) for limit in limits
    )
    return "match" if named or limited or route.verify else "any"


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
