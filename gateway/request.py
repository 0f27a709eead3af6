"""A request as the edge sees it: the head at once, the body only where it has to be read."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from gateway.address import Client, client_of, forwarding, speaks_of_forwarding
from gateway.problems import Receive, Refusal
from runtime.policies import EventSource, Fixed, Header, JsonPointer, PathSegment, SessionSource, Trust

Pairs = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"),
    )
)
_NEVER_DROPPED = frozenset((b"host", b"content-length"))  # whatever a client lists in Connection
_LONGEST_NAME = 200
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(:[0-9]*)?")  # RFC 9110 section 7.2
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Head:
    """`headers` as uvicorn gives them: names in lower case, order and repeats kept."""

    method: str
    raw_path: bytes
    target: bytes
    """Path and query, byte for byte as received."""
    headers: Pairs
    client: Client
    scheme: str
    port: int

    def value(self, name: bytes) -> bytes | None:
        """The value of a header that is there exactly once."""
        values = [value for key, value in self.headers if key == name]
        return values[0] if len(values) == 1 else None

    @property
    def length(self) -> int | None:
        """Content-Length, where there is one."""
        text = self.value(b"content-length")
        return int(text) if text is not None else None

    @property
    def chunked(self) -> bool:
        return any(name == b"transfer-encoding" for name, _ in self.headers)

    def forwarded(self) -> Pairs:
        """The headers for the next one: end to end, and what it may believe about the client (ours, put last)."""
        dropped = _HOP_BY_HOP
        for name, value in self.headers:
            if name == b"connection":
                dropped = dropped | (connection_tokens(value) - _NEVER_DROPPED)
        kept = [pair for pair in self.headers if pair[0] not in dropped and not speaks_of_forwarding(pair[0])]
        return kept + forwarding(self.client, self.headers, self.scheme, self.port)


@lru_cache(maxsize=1024)
def connection_tokens(value: bytes) -> frozenset[bytes]:
    """The names that a Connection header says are for the next hop only (RFC 9110 section 7.6.1)."""
    return frozenset(token.strip().lower() for token in value.split(b","))


def read_head(scope: MutableMapping[str, Any], trust: Trust) -> Head:
    """Raises Refusal 400 for a head that could be read in two ways."""
    headers: Pairs = scope["headers"]
    _refuse_ambiguous(headers, trust)
    peer = scope["client"][0] if scope["client"] else None
    return Head(
        method=scope["method"],
        raw_path=scope["raw_path"] or b"/",
        target=_target(scope),
        headers=headers,
        client=client_of(peer, headers, trust.proxies),
        scheme=scope["scheme"],
        port=(scope["server"] or ("", 0))[1] or 0,
    )


def _target(scope: MutableMapping[str, Any]) -> bytes:
    """As the server has it; ASGI itself does not tell `/a?` from `/a`."""
    exact: bytes | None = scope.get("extensions", {}).get("sluice.target")
    if exact is not None:
        return exact
    path: bytes = scope["raw_path"] or b"/"
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def _refuse_ambiguous(headers: Pairs, trust: Trust) -> None:
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not hosts[0]:
        raise Refusal(400, "a request has exactly one Host header")
    host = _HOST.fullmatch(hosts[0])
    if host is None:
        raise Refusal(400, "the Host header is not a host")
    if trust.hosts and host[1].decode().lower() not in trust.hosts:
        raise Refusal(400, "this host is not served here; trust.hosts in policies.yaml lists those that are")
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise Refusal(400, "the length of the body is given more than once")
    if lengths and (not lengths[0].isdigit() or len(lengths[0]) > 18):
        raise Refusal(400, "Content-Length is not a number")
    if codings and codings[0].lower() != b"chunked":
        raise Refusal(400, "the only transfer coding understood here is chunked")


async def read_body(head: Head, receive: Receive, most: int) -> bytes:
    """The whole body. Raises Refusal 413 over `most` bytes, or ClientGone."""
    if (head.length or 0) > most:
        raise Refusal(413, f"the body is {head.length} bytes, this route takes {most} at most (`body:` of the route)")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > most:
            raise Refusal(413, f"the body is over {most} bytes, the most this route takes (`body:` of the route)")
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class ClientGone(Exception):
    """The client went away before its request was read."""


@dataclass(frozen=True, slots=True)
class Json:
    """A body that has been parsed because something had to be found in it."""

    value: object

    def at(self, pointer: str) -> object:
        """What an RFC 6901 pointer points to; None where it points to nothing."""
        value = self.value
        for token in pointer.split("/")[1:]:
            token = token.replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping):
                value = value.get(token)
            elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
                value = value[int(token)]
            else:
                return None
        return value


def parse_json(body: bytes, why: str) -> Json:
    """Raises Refusal 400; `why` says what it is needed for."""
    try:
        return Json(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"the body is not JSON ({error}); {why}") from None


def needs_json(*sources: EventSource | SessionSource | None) -> str | None:
    """What the body has to be JSON for, in words; None when nothing is looked for in it."""
    pointers = [source.pointer for source in sources if isinstance(source, JsonPointer)]
    return f"this route reads {' and '.join(pointers)} from it" if pointers else None


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
    if not isinstance(found, str):
        raise Refusal(400, f"the {what} is not a string")
    if len(found) > _LONGEST_NAME or not found.isprintable():
        raise Refusal(400, f"the {what} is over {_LONGEST_NAME} characters or has control characters in it")
    return found
