"""The field lines of a head, of requests and responses alike: read strictly, and remembered.

Most lines of a head came before, byte for byte: hosts, agents, cookies, content types. What a line says is worked out
once and kept, so a known line costs one look into a dictionary, and a proxy passes it on as one piece.

RFC 9112 section 5 as it is meant for who passes messages on: a name is a token, directly followed by the colon; a value
holds no control character but the tab; a line ends with CR LF, and none is folded onto the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from sluice.http.errors import BadField
from sluice.process.cache import Cache

HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 4
CONNECTION: Final = 8
EXPECT: Final = 16
UPGRADE: Final = 32
HOP_BY_HOP: Final = 64
"""Keep-Alive, Proxy-Connection, TE and Trailer: for the next hop only (RFC 9110 section 7.6.1)."""
PROXY_AUTH: Final = 128
"""Proxy-Authorization and Proxy-Authenticate: for the next hop in a request, the origin's word in a response."""
FORWARDING: Final = 256
"""What nobody but we and our proxies may say to the next one: who the client is, where its request goes. And what the
next one would take for that, or for another field that we set or strip."""
QUOTA: Final = 512
"""X-RateLimit-*: how many more requests somebody lets through."""
REQUEST_ID: Final = 1024
"""By which a request is found in several logs: `sluice/http/request_id.py`."""
REFERER: Final = 2048
USER_AGENT: Final = 4096
TRACEPARENT: Final = 8192
TRACESTATE: Final = 16384
"""Both: `sluice/http/trace.py`."""

_KINDS: Final = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"keep-alive": HOP_BY_HOP,
    b"proxy-connection": HOP_BY_HOP,
    b"te": HOP_BY_HOP,
    b"trailer": HOP_BY_HOP,
    b"proxy-authorization": PROXY_AUTH,
    b"proxy-authenticate": PROXY_AUTH,
    b"forwarded": FORWARDING,
    b"x-real-ip": FORWARDING,
    b"x-original-url": FORWARDING,  # this and the next: in its place older Symfony and Zend route by them
    b"x-rewrite-url": FORWARDING,
    b"proxy": FORWARDING,  # HTTP_PROXY of a CGI script (CVE-2016-5385)
    b"x-request-id": REQUEST_ID,
    b"referer": REFERER,
    b"user-agent": USER_AGENT,
    b"traceparent": TRACEPARENT,
    b"tracestate": TRACESTATE,
    b"x-ratelimit-limit": QUOTA,
    b"x-ratelimit-remaining": QUOTA,
    b"x-ratelimit-reset": QUOTA,
}
_FORWARDING_PREFIXES: Final[tuple[bytes, ...]] = (b"x-forwarded-", b"x-sluice-")
_AS_DASHES: Final = bytes.maketrans(b"_.", b"--")
"""PHP, and whoever else keeps fields as CGI variables (RFC 3875 section 4.1.18), has one name for all three."""
_TAKEN_FOR: Final = frozenset(
    name for name, kind in _KINDS.items() if not kind & (QUOTA | REFERER | USER_AGENT | TRACEPARENT | TRACESTATE)
)
_TAKEN_FOR_PREFIXES: Final[tuple[bytes, ...]] = (*_FORWARDING_PREFIXES, b"sec-websocket-")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = bytes([*range(9), *range(10, 32), 127])
"""All but the tab."""
_NONE: Final[frozenset[bytes]] = frozenset()
_COMMON: Final = frozenset((b"keep-alive", b"close", b"upgrade"))
"""Options that name no field, or one that is hop by hop anyway."""
_MAX_DIGITS: Final = 18
_MAX_LINE: Final = 512
"""Bytes of a line that is kept; what is longer hardly comes a second time."""


class Field:
    """One field line. Never changed."""

    __slots__ = ("key", "kind", "line", "name", "number", "options", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        """What is not known to be sound comes in through `read_fields`."""
        self.name = name
        self.value = value
        key = self.key = name.lower()
        self.line = b"%b: %b\r\n" % (name, value)
        kind = _KINDS.get(key)
        if kind is None:
            with_dashes = key.translate(_AS_DASHES)
            taken_for = key.startswith(_FORWARDING_PREFIXES) or (with_dashes != key and _is_ours(with_dashes))
            kind = FORWARDING if taken_for else 0
        self.kind = kind
        """0 for what is end to end and of no consequence here; else one of the constants above."""
        self.options = _tokens(value) if kind == CONNECTION else _NONE
        """The names a Connection field lists, in lower case (RFC 9110 section 7.6.1)."""
        self.number = _number(value) if kind == CONTENT_LENGTH else -1
        """Bytes that a Content-Length states; -1: it states none."""

    def __repr__(self) -> str:
        return f"Field({self.name!r})"  # the value may be a secret


class Fields:
    """The field lines of one head, in their order. Never changed."""

    __slots__ = ("all", "kinds", "repeated")

    def __init__(self, fields: list[Field]) -> None:
        kinds = repeated = 0
        for field in fields:
            kind = field.kind
            repeated |= kinds & kind
            kinds |= kind
        self.all = fields
        self.kinds = kinds
        """The kinds that are there, added up."""
        self.repeated = repeated
        """The kinds that are there more than once."""

    def first(self, kind: int) -> bytes | None:
        """The value of the first field of a kind."""
        field = self._first(kind)
        return None if field is None else field.value

    def length(self) -> int:
        """What Content-Length states; -1: nothing, or no number."""
        field = self._first(CONTENT_LENGTH)
        return -1 if field is None else field.number

    def _first(self, kind: int) -> Field | None:
        if self.kinds & kind:
            for field in self.all:
                if field.kind == kind:
                    return field
        return None

    def options(self) -> frozenset[bytes]:
        """What the Connection fields list, in lower case."""
        if self.repeated & CONNECTION:
            return _NONE.union(*[field.options for field in self.all if field.kind == CONNECTION])
        field = self._first(CONNECTION)
        return _NONE if field is None else field.options

    def without(self, kinds: int) -> list[Field]:
        """Those that are not of these kinds, nor listed in a Connection field; whatever it lists, Host and
        Content-Length stay."""
        if not self.kinds & kinds:
            return self.all
        listed = self.options()
        if listed <= _COMMON:
            return [field for field in self.all if not field.kind & kinds]
        return [
            field
            for field in self.all
            if not field.kind & kinds and (field.key not in listed or field.kind & (HOST | CONTENT_LENGTH))
        ]


_fields: Final[Cache[bytes, Field]] = Cache(4 * 2**20)
"""By their lines."""
_known: Final = _fields.known


def read_fields(block: bytes) -> Fields:
    """The field lines between the first line of a head and the empty one, without the last CR LF. Raises BadField."""
    if not block:
        return Fields([])
    lines = block.split(b"\r\n")
    known = _known
    try:
        return Fields([known[line] for line in lines])
    except KeyError:
        return Fields([known.get(line) or _learn(line) for line in lines])


def fields_of(pairs: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Of names and values that somebody else has read, soundly."""
    return Fields([Field(name, value) for name, value in pairs])


def pair_of(line: bytes) -> tuple[bytes, bytes]:
    """Name, in lower case as ASGI wants it, and value of a field line."""
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t\r\n")


def _is_ours(name: bytes) -> bool:
    return name in _TAKEN_FOR or name.startswith(_TAKEN_FOR_PREFIXES)


def _number(value: bytes) -> int:
    return int(value) if value.isdigit() and len(value) <= _MAX_DIGITS else -1


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip(b" \t").lower() for token in value.split(b","))


def _learn(line: bytes) -> Field:
    name, colon, value = line.partition(b":")
    # Leaving the control characters out and counting takes a fifth of what looking for them does.
    if not colon or _NAME.fullmatch(name) is None or len(line.translate(None, _CONTROL)) != len(line):
        raise BadField("a field line is `name: value`, without control characters and not folded")
    field = Field(name, value.strip(b" \t"))
    if field.kind == TRANSFER_ENCODING and b"\t" in line:
        raise BadField("a tab beside a transfer coding, which not everybody passes over")
    if len(line) <= _MAX_LINE and field.kind != TRACEPARENT:  # of which each is another one
        _fields.keep(line, field, 5 * len(line) + 200 + 128 * len(field.options))
    return field
