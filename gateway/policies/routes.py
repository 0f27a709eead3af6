"""The section `routes`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from gateway.policies import paths
from sluice.config import listening, parsers, references
from sluice.config.fields import Fields, Value
from sluice.config.parsers import choice, each, of
from sluice.config.problems import Malformed, quoted

Source = TypeVar("Source")
How = Literal["list", "place", "owner", "any", "health"]
WITHOUT_SESSION = frozenset[How](("list", "any", "health"))
NOT_PASSED_ON = frozenset[How](("list", "health"))
"""What the gateway answers itself."""
ACTIONS = ("upstream", "relay", "workers")
METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
BODY = 2**20
RELAYED_BODY = 32 * 2**20
WORKERS_BODY = 50 * 2**20
"""What the existing workers take."""
UNLIMITED = 2**60
WORKERS_HEADERS = 60.0
"""Seconds; as long as an existing worker takes for anything."""
WORKERS_IDLE = 60.0


@dataclass(frozen=True, slots=True)
class Fixed:
    """The event type is the route's own, whatever the request says."""

    value: str


@dataclass(frozen=True, slots=True)
class JsonPointer:
    """RFC 6901, into the request's JSON body."""

    pointer: str


@dataclass(frozen=True, slots=True)
class Header:
    name: str


@dataclass(frozen=True, slots=True)
class PathSegment:
    """The `{name}` of the route's path."""

    name: str


EventSource = Fixed | JsonPointer | Header
SessionSource = JsonPointer | Header | PathSegment  # of a workspace too


@dataclass(frozen=True, slots=True)
class ToUpstream:
    """Stream it to a fixed address."""

    upstream: str


@dataclass(frozen=True, slots=True)
class ToRelay:
    """Store it, answer 202, deliver it later: to each of these endpoints whose `events` it is one of."""

    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToWorkers:
    """`owner`: the worker that owns the session; `place`: the same, placed first; `any`: any live worker; `list`: the
    registry answers; `health`: the gateway, for all workers together."""

    how: How


Action = ToUpstream | ToRelay | ToWorkers


@dataclass(frozen=True, slots=True)
class Route:
    path: str
    methods: frozenset[str]
    """Empty: any."""
    verify: str | None
    """Name of the signature every request must carry."""
    event: EventSource | None
    session: SessionSource | None
    action: Action
    body: int | None
    """Bytes of body that a request may have; None: any number, where they are streamed to an upstream."""
    line: int
    workspace: SessionSource | None = None
    headers: float | None = None
    """Seconds from when the request was sent whole to the head of its answer; None: as the upstream says."""
    idle: float | None = None
    """Seconds for which nothing may move of the request on its way, or of its answer; None: as the upstream says."""
    on: tuple[str, ...] = ()
    """Names of the listeners whose requests it takes; empty: of all."""
    ambiguous_paths: bool = False
    """A path that others may read differently is passed on, although the route depends on it."""

    def most(self, *, whole: bool) -> int:
        """Bytes of body that a request may have. `whole`: it is read before anything is done."""
        return self.body or (BODY if whole else UNLIMITED)


ABOUT = {
    "path": "`*` is any text within a segment, `**` any rest, `{session}` a segment with a name.",
    "session": "Where the session stands; `{session}` in the path is enough.",
    "workspace": "Where the workspace stands; `{workspace}` in the path is enough.",
    "methods": "Empty: all.",
    "verify": "Name of the signature that a request must have; else 401.",
    "event": "The event type itself, or where it stands.",
    "body": "Then 413. Not written: 50MiB to workers, 32MiB relayed, 1MiB where it is looked into.",
    "ambiguous_paths": "What others may read differently (`//`, `..`, `%2F`), where something depends on the path.",
    "on": "Names of the listeners whose requests it takes, one or a list; empty: all.",
    "headers": "From the end of the request to the answer. Not written: 60s to workers, else the upstream's.",
    "idle": "For which nothing of request or answer moves. Not written: 60s to workers, else the upstream's.",
    "upstream": "The name of one, to which requests are passed on.",
    "relay": "The name of an endpoint, or a list: stored, answered 202, and delivered.",
    "workers": "To one with room (`place`), the session's `owner`, or `any` live one; the others are answered here.",
}


def route(value: Value) -> Route:
    with value.fields(ABOUT) as fields:
        path = fields.need("path", of(paths.pattern), "", "path: /api/**")
        action = _action(fields)
        headers, idle = _times(action, fields)
        session = fields.take("session", lambda source: _subject(source, path, "session"), _segment_of(path, "session"))
        if session is None and "session" not in fields and fields.sound("path"):
            _refuse_without_session(action, fields)
        methods: tuple[str, ...] = fields.take("methods", each(of(method)), ())
        return Route(
            path=path,
            methods=frozenset(methods),
            verify=fields.take("verify", references.signature, None),
            event=fields.take("event", _event, None),
            session=session,
            action=action,
            body=fields.take("body", parsers.size, _usual_body(action)),
            line=value.line,
            ambiguous_paths=fields.take("ambiguous_paths", choice("refuse", "allow"), "refuse") == "allow",
            workspace=fields.take(
                "workspace", lambda source: _subject(source, path, "workspace"), _segment_of(path, "workspace")
            ),
            headers=headers,
            idle=idle,
            on=fields.take("on", listening.on, ()),
        )


def _usual_body(action: Action) -> int | None:
    match action:
        case ToRelay():
            return RELAYED_BODY
        case ToWorkers(how):
            return BODY if how in NOT_PASSED_ON else WORKERS_BODY
    return None


def _times(action: Action, fields: Fields) -> tuple[float | None, float | None]:
    """Of `headers` and `idle`."""
    passed_on = isinstance(action, ToWorkers) and action.how not in NOT_PASSED_ON
    headers = fields.take("headers", parsers.duration, WORKERS_HEADERS if passed_on else None)
    idle = fields.take("idle", parsers.duration, WORKERS_IDLE if passed_on else None)
    for name in ("headers", "idle"):
        if name in fields and not passed_on and not isinstance(action, ToUpstream):
            cure = "remove it; timeout: of an endpoint is how long a delivery may take"
            fields.wrong(name, Malformed("is for upstream:, and workers: place, owner and any", cure))
    if "timeout" in fields:
        fields.wrong("timeout", Malformed("is called headers: now", "write headers: with the same time"))
    return headers, idle


def method(text: str) -> str:
    if text == "TRACE":
        raise Malformed("TRACE is refused for every path", "remove it")
    if not METHOD.fullmatch(text):
        upper = text.upper()
        raise Malformed(f"{quoted(text)} is not a method", f"write {upper if METHOD.fullmatch(upper) else 'POST'}")
    return text


def _action(fields: Fields) -> Action:
    fields.only_one(ACTIONS, "goes nowhere")
    upstream = fields.take("upstream", references.one_of_section("upstream", "upstreams"), "")
    endpoints: tuple[str, ...] = fields.take("relay", _endpoints, ("",))
    how: How = fields.take("workers", choice("list", "place", "owner", "any", "health"), "list")
    if "relay" in fields:
        return ToRelay(endpoints)
    return ToWorkers(how) if "workers" in fields else ToUpstream(upstream)


def _endpoints(value: Value) -> tuple[str, ...]:
    """One name, or a list of them."""
    endpoint = references.one_of_section("endpoint", "relay", "endpoints")
    if not value.is_list:
        return (endpoint(value),)
    if not value.items():
        raise Malformed("names no endpoint", "write relay: laravel, or relay: [laravel, archive]")
    names: list[str] = []
    for item in value.items():
        name = item.attempt(endpoint, "")
        if name and name in names:
            item.note(Malformed(f"{quoted(name)} is there twice", "keep one"))
        names.append(name)
    return tuple(names)


def _refuse_without_session(action: Action, fields: Fields) -> None:
    if isinstance(action, ToWorkers) and action.how not in WITHOUT_SESSION:
        cure = "write session: {json: /session_id}, or {session} in the path"
        fields.wrong("workers", Malformed(f"{action.how} needs a session", cure))


def _event(value: Value) -> EventSource:
    if not value.is_mapping:
        return Fixed(parsers.event_type(value.text()))
    return _source(value, "{json: /event} or {header: X-Event-Type}", {"json": _json, "header": _header}) or Fixed("")


def _subject(value: Value, path: str, what: Literal["session", "workspace"]) -> SessionSource | None:
    cure = f"{{json: /{what}_id}}, {{header: X-{what.title()}-Id}} or {{path: {what}}}"
    if not value.is_mapping and not value.is_list:
        raise Malformed(f"{quoted(value.shown())} says not where to look", f"write {cure}")
    places: Mapping[str, Callable[[Value], SessionSource]] = {
        "json": _json,
        "header": _header,
        "path": lambda name: _segment(name, path),
    }
    return _source(value, cure, places)


def _segment_of(path: str, name: str) -> SessionSource | None:
    return PathSegment(name) if name in paths.captures(path) else None


PLACES = {
    "json": "JSON pointer into the body.",
    "header": "Name of a header.",
    "path": "Name of a `{segment}` of the path.",
}


def _source(value: Value, cure: str, places: Mapping[str, Callable[[Value], Source]]) -> Source | None:
    """What stands under the one of these keys that is there."""
    with value.fields(PLACES) as fields:
        found = [fields.take(name, parse, None) for name, parse in places.items()]
        # None of them among other keys: those are unknown, and refused as such.
        if sum(name in fields for name in places) > 1 or not len(fields):
            raise Malformed("must say one place to look", f"write {cure}")
        return next(filter(None, found), None)


def _json(value: Value) -> JsonPointer:
    return JsonPointer(parsers.json_pointer(value.text()))


def _header(value: Value) -> Header:
    return Header(parsers.header_name(value.text()))


def _segment(value: Value, path: str) -> PathSegment:
    name = value.text()
    # No path: it was refused already, and nobody knows what it meant to capture.
    if path and name not in paths.captures(path):
        raise Malformed(f"the path has no {{{name}}}", f"write {{{name}}} for a segment of it")
    return PathSegment(name)
