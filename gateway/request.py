"""A request as the edge sees it: the head at once, the body only where it has to be read."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs

from gateway.client_ip import MAX_CHAIN, Client, client_of, forwarding, said_too_much
from gateway.policies import (
    EventSource,
    Fixed,
    Header,
    JsonPointer,
    PathSegment,
    Route,
    SessionSource,
    Trust,
    streams,
)
from gateway.workers.prefixes import Prefixes
from sluice.http import foreign_json, lenient_json, request_id
from sluice.http.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    FORWARDING,
    HOP_BY_HOP,
    HOST,
    PROXY_AUTH,
    REQUEST_ID,
    TRANSFER_ENCODING,
    UPGRADE,
    Field,
    Fields,
)
from sluice.http.problem import Refusal
from sluice.http.server import RequestHead
from sluice.http.trace import TRACE, unsound
from sluice.http.via import Via
from sluice.process.cache import Cache

Pairs = list[tuple[bytes, bytes]]

_NOT_FOR_THE_NEXT: Final = (
    CONNECTION | TRANSFER_ENCODING | EXPECT | UPGRADE | HOP_BY_HOP | PROXY_AUTH | FORWARDING | REQUEST_ID
)
_MAX_NAME: Final = 200
_MAX_FIELDS: Final = 1000
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(slots=True, init=False)
class Head:
    """The head of a request, who sent it and where to. Never changed."""

    method: str
    path: bytes
    target: bytes
    """Path and query, byte for byte as received."""
    fields: Fields
    length: int | None
    """Bytes of the body; None: it comes in chunks."""
    client: Client
    scheme: str
    via: Field
    """What the next one is told of the gateways that it has passed."""
    worker: str | None
    """The existing worker that sent it, by its prefix, which `path` and `target` are without."""
    listener: str
    """The name of the listener that it came to; empty: not known."""
    id_line: bytes
    """The field line of its id, for the next one and for the client; empty where nobody is told."""

    def __init__(
        self,
        method: str,
        path: bytes,
        target: bytes,
        fields: Fields,
        length: int | None,
        client: Client,
        scheme: str,
        via: Field,
        worker: str | None = None,
        listener: str = "",
        id_line: bytes = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.target = target
        self.fields = fields
        self.length = length
        self.client = client
        self.scheme = scheme
        self.via = via
        self.worker = worker
        self.listener = listener
        self.id_line = id_line

    @property
    def headers(self) -> Pairs:
        """Names in lower case, order and repeats kept."""
        return [(field.key, field.value) for field in self.fields.all]

    def value(self, name: bytes) -> bytes | None:
        """The value of a header, by its name in lower case, that is there exactly once."""
        values = [field.value for field in self.fields.all if field.key == name]
        return values[0] if len(values) == 1 else None

    def kept(self) -> list[Field]:
        """The fields that another gateway has to know, to forward the request later as this one would now."""
        return self.fields.without(_NOT_FOR_THE_NEXT & ~FORWARDING | CONTENT_LENGTH)

    def forwarded(self) -> list[Field]:
        """The fields for the next one: end to end, and what it may believe about the client (ours, put last). Without
        the id of the request, which an event does not take with it."""
        fields, not_for_the_next = self.fields, _NOT_FOR_THE_NEXT
        if fields.kinds & TRACE:
            not_for_the_next |= unsound(fields)
        kept = fields.without(not_for_the_next)
        return [*kept, *forwarding(self.client, self.fields, self.scheme), self.via]


def head_of(
    head: RequestHead,
    peer: str | None,
    scheme: str,
    trust: Trust,
    via: Via,
    prefixes: Prefixes | None = None,
    listener: str = "",
) -> Head:
    """`peer`: its address; `prefixes`: those of workers, which are taken off; `listener`: where it came to."""
    fields, target, worker = head.fields, head.target, None
    client = client_of(peer, fields, trust.proxies)
    path = target.partition(b"?")[0]
    if prefixes is not None:
        known = prefixes.of(path)
        if known is not None:
            worker, taken = known
            path, target = path[taken:] or b"/", target[taken:]
            if not target.startswith(b"/"):
                target = b"/" + target
    after, id_line, method = via.after(fields), id_line_for(fields, client), head.method.decode()
    return Head(method, path, target, fields, head.length, client, scheme, after, worker, listener, id_line)


def id_line_for(fields: Fields, client: Client) -> bytes:
    """The field line of the request's id: what a trusted proxy calls it, or one of ours."""
    if fields.kinds & REQUEST_ID and client.trusted_peer and not fields.repeated & REQUEST_ID:
        return request_id.line_for(fields.first(REQUEST_ID))
    return request_id.new_line()


def refuse_host(head: Head, served: Container[str]) -> None:
    """Raises Refusal 400 for a host that is not served here. `served` empty: any is."""
    host = head.fields.first(HOST)
    if not host:
        raise Refusal(400, "a request has exactly one Host header")  # HTTP/1.0 may do without; who is meant, then?
    if served and host_name(host) not in served:
        raise Refusal(400, "this host is not served here; trust.hosts in policies.yaml lists those that are")


def refuse_chain(head: Head) -> None:
    """Raises Refusal 400 for a chain of proxies that is none."""
    if said_too_much(head.fields):
        raise Refusal(400, f"the X-Forwarded-* fields have over {MAX_CHAIN} bytes together")


_names: Final[Cache[bytes, str]] = Cache(256 * 2**10)


def host_name(host: bytes) -> str:
    """In lower case, without the port."""
    known = _names.get(host)
    if known is not None:
        return known
    end = host.find(b"]") + 1 or host.find(b":")
    return _names.keep(host, (host[:end] if end > 0 else host).decode().lower(), 2 * len(host))


@lru_cache(maxsize=1024)
def _tokens(pointer: str) -> tuple[str, ...]:
    return tuple([token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]])


@dataclass(frozen=True, slots=True)
class Json:
    """A body that has been parsed because something had to be found in it."""

    value: Any
    readable: bool = True
    """False: it is no JSON, and nothing is found in it."""

    def at(self, pointer: str) -> object:
        """What an RFC 6901 pointer points to; None where it points to nothing."""
        value = self.value
        for token in _tokens(pointer):
            if isinstance(value, dict):
                value = value.get(token)
            elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
                value = value[int(token)]
            else:
                return None
        return value


def parse_json(body: bytes, why: str) -> Json:
    """Raises Refusal 400; `why` says what it is needed for."""
    try:
        return Json(lenient_json.loads(body))
    except ValueError as error:
        raise Refusal(400, f"the body is not JSON ({error}); {why}") from None


def parse_form(body: bytes) -> Json:
    """The fields of an urlencoded body; of one that is there more than once, a list. Raises Refusal 400."""
    if len(body) > foreign_json.MAX_VALUES and body.count(b"%") > foreign_json.MAX_VALUES:
        raise Refusal(400, f"the form has over {foreign_json.MAX_VALUES:,} encoded bytes")
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Refusal(400, "the body is no urlencoded form") from None
    return Json({name: values[0] if len(values) == 1 else values for name, values in fields.items()})


def json_if_any(body: bytes) -> Json | None:
    """None: there is no body."""
    try:
        return Json(lenient_json.loads(body)) if body else None
    except ValueError:
        return Json(None, readable=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """What of a body has to be read before a request of a route goes on."""

    whole: bool
    """The body is read; else it is streamed on."""
    json: str | None
    """What it has to be JSON for, in words; None: it may be anything."""
    cost: bool
    """A limit looks into it for what the request costs."""


def reading_of(route: Route, costs: Sequence[JsonPointer]) -> Reading:
    """`costs`: where limits look into the body for what a request costs."""
    sources = (route.event, route.session, route.workspace)
    pointers = list(dict.fromkeys(source.pointer for source in sources if isinstance(source, JsonPointer)))
    json = f"this route reads {' and '.join(pointers)} from it" if pointers else None
    return Reading(bool(costs) or not streams(route), json, bool(costs))


def name_from(
    source: EventSource | SessionSource | None, head: Head, captured: Mapping[str, str], json: Json | None, what: str
) -> str | None:
    """The event type or session a source leads to; None where there is none. Raises Refusal 400 for a useless one."""
    match source:
        case None:
            return None
        case Fixed(value):
            return value
        case Header(name):
            given = head.value(name.lower().encode())
            found: object = given.decode("utf-8", "replace") if given else None
        case PathSegment(name):
            found = captured.get(name)
        case JsonPointer(pointer):
            found = json.at(pointer) if json else None
    if found is None or found == "":
        return None
    if type(found) is int and what == "workspace":
        found = str(found)  # numbers in Laravel's database
    if not isinstance(found, str):
        raise Refusal(400, f"the {what} is not a string")
    if len(found) > _MAX_NAME or not found.isprintable():
        raise Refusal(400, f"the {what} is over {_MAX_NAME} characters or has control characters in it")
    return found
