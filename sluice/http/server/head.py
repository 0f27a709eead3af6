"""The head of a request, read so that nobody behind us can read it differently. No I/O.

Whatever can be understood in two ways is refused (RFC 9112 section 11.2). Field lines are `sluice.http.fields`' part.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from sluice.http.date import date_line
from sluice.http.errors import BadField
from sluice.http.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TRANSFER_ENCODING,
    UPGRADE,
    Field,
    Fields,
    read_fields,
)
from sluice.http.problem import Refusal
from sluice.http.request_id import id_of
from sluice.http.server.refused import Refused
from sluice.process.cache import Cache

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
STATUS_LINES: Final = {n: b"HTTP/1.1 %d %b\r\n" % (n, _PHRASES.get(n, "").encode()) for n in range(100, 600)}

MAX_HEAD: Final = 64 * 1024
MAX_FIELDS: Final = 256
MAX_TARGET: Final = 16 * 1024
MAX_METHOD: Final = 32
MAX_HOST: Final = 255

# RFC 9112 section 3; that a target may have bytes over 0x7F is what browsers and nginx make of it.
_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~\x80-\xff]+) HTTP/1\.([01])\r\n")
_ANY_VERSION: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~\x80-\xff]+ HTTP/[0-9]\.[0-9]\r\n")
_LONG_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{33}")
_OVER_ASCII: Final = re.compile(rb"[\x80-\xff]")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]*)?")  # RFC 9110 section 7.2
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)
_good_hosts: Final[Cache[bytes, bytes]] = Cache(256 * 1024)


class RequestHead:
    """`target`: path and query byte for byte as they came; of an absolute form what an origin is to be sent."""

    __slots__ = ("current", "fields", "length", "method", "target")

    def __init__(self, method: bytes, target: bytes, current: bool, fields: Fields, length: int | None) -> None:
        self.method = method
        self.target = target
        self.current = current
        """HTTP/1.1, not 1.0."""
        self.fields = fields
        self.length = length
        """Bytes of the body; None: it comes in chunks."""

    @property
    def keeps_alive(self) -> bool:
        """RFC 9112 section 9.3; of HTTP/1.0 only what asks for it, as `ab -k` does."""
        if not self.fields.kinds & CONNECTION:
            return self.current
        options = self.fields.options()
        return b"close" not in options and (self.current or b"keep-alive" in options)

    @property
    def wants_websocket(self) -> bool:
        """RFC 6455 section 4.1. Beside a body, or of another kind, an upgrade is ignored (RFC 9110 section 7.8)."""
        fields = self.fields
        return bool(
            fields.kinds & UPGRADE
            and self.method == b"GET"
            and self.current
            and self.length == 0
            and (fields.first(UPGRADE) or b"").lower() == b"websocket"
            and b"upgrade" in fields.options()
        )


def read_head(head: bytes, most: int = MAX_HEAD) -> RequestHead:
    """From the first line to the empty one, `most` bytes. Raises Refused."""
    line = _LINE.match(head)
    if line is None:
        raise bad_line(head)
    method, target, minor = line.groups()
    end: int = line.end()
    if len(target) > MAX_TARGET:
        raise Refused(414, f"the target is over {MAX_TARGET} bytes")
    if len(head) > most:
        raise Refused(431, f"the head is over {most} bytes (clients.head_size)")
    if len(method) > MAX_METHOD:
        raise _long_method()
    if method == b"CONNECT":
        raise Refused(501, "CONNECT is not understood here")
    try:
        fields = read_fields(head[end:-4] if end < len(head) - 2 else b"")
    except BadField as error:
        raise Refused(400, f"this is not HTTP/1.1: {error}") from None
    if len(fields.all) > MAX_FIELDS:
        raise Refused(431, f"there are over {MAX_FIELDS} fields")
    if fields.repeated:
        _refuse_repeated(fields)
    current = minor == b"1"
    host = _host(fields, current)
    length = _length(fields, current) if fields.kinds & (CONTENT_LENGTH | TRANSFER_ENCODING) else 0
    if fields.kinds & EXPECT and (fields.first(EXPECT) or b"").lower() != b"100-continue":
        raise Refused(417, "the only expectation understood here is 100-continue")  # RFC 9110 section 10.1.1
    if target.find(b"#") >= 0:
        raise Refused(400, "a target has no fragment")  # RFC 9112 section 3.2
    if target[0] != 0x2F:
        target, authority = _other_form(target, method)
        if authority is not None and authority != host:
            fields = _with_host(fields, authority)
    return RequestHead(method, target, current, fields, length)


def refuse_early(head: bytearray, begun: int, most: int) -> None:
    """A head that has not all come, from byte `begun` on: nothing that is wrong already is waited for."""
    if _BARE_LF.search(head, max(0, begun - 1)):
        raise Refused(400, "this is not HTTP/1.1: a line ends with CR LF")
    if head[0] < 0x21 and head != b"\r":
        raise Refused(400, "this is not HTTP/1.1: a request begins with a method")
    if begun <= MAX_METHOD and _LONG_METHOD.match(head):
        raise _long_method()
    first = head.find(b"\n")
    if first < 0:
        if len(head) > MAX_TARGET + 256:
            raise Refused(414, f"the target is over {MAX_TARGET} bytes")
    elif first >= begun and not _LINE.match(head):
        raise bad_line(head)
    if len(head) > most:
        raise Refused(431, f"the head is over {most} bytes (clients.head_size)")


def percent_encoded(target: bytes) -> bytes:
    """The same target for readers that take ASCII only (RFC 3986 section 2.5)."""
    return target if target.isascii() else _OVER_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], target)


def bad_line(head: bytes | bytearray) -> Refused:
    if _ANY_VERSION.match(head):
        return Refused(505, "only HTTP/1.1 and HTTP/1.0 are understood here")
    return Refused(400, "a request begins with `METHOD target HTTP/1.1`")


def _long_method() -> Refused:
    """RFC 9112 section 3: longer than any that is implemented."""
    return Refused(501, f"a method has {MAX_METHOD} characters at most")


def problem(status: int, detail: str, id_line: bytes, accept: bytes = b"") -> bytes:
    """A whole answer, the last on its connection: as RFC 9457 has it, or a page for who accepts that."""
    headers, body = Refusal(status, detail).answer(accept, id_of(id_line))
    lines = [b"%b: %b\r\n" % pair for pair in headers]
    return b"".join([STATUS_LINES[status], date_line(), id_line, *lines, b"connection: close\r\n\r\n", body])


def _refuse_repeated(fields: Fields) -> None:
    if fields.repeated & HOST:
        raise Refused(400, "a request has exactly one Host header")
    if fields.repeated & (CONTENT_LENGTH | TRANSFER_ENCODING):
        raise Refused(400, "the length of the body is given more than once")
    if fields.repeated & EXPECT:
        raise Refused(417, "the only expectation understood here is 100-continue")


def _host(fields: Fields, current: bool) -> bytes | None:
    """RFC 9112 section 3.2."""
    host = fields.first(HOST)
    if host is not None and _good_hosts.get(host) is not None:
        return host
    if host is None:
        if current:
            raise Refused(400, "a request has exactly one Host header")
        return None
    if len(host) > MAX_HOST:
        raise Refused(400, f"the Host header is over {MAX_HOST} bytes")
    if not _HOST.fullmatch(host):
        raise Refused(400, "the Host header is not a host")
    return _good_hosts.keep(host, host, len(host))


def _length(fields: Fields, current: bool) -> int | None:
    """RFC 9112 section 6: one of the two, said once, and understood by everybody."""
    coding = fields.first(TRANSFER_ENCODING)
    if coding is None:
        length = fields.length()
        if length < 0:
            raise Refused(400, "Content-Length is not a number")
        return length
    if fields.kinds & CONTENT_LENGTH:
        raise Refused(400, "the length of the body is given more than once")
    if not current or coding.lower() != b"chunked":
        # RFC 9112 section 6.1: HTTP/1.0 has none, so the framing is faulty.
        raise Refused(400, "the only transfer coding understood here is chunked, in HTTP/1.1")
    return None


def _other_form(target: bytes, method: bytes) -> tuple[bytes, bytes | None]:
    """`*`; or path and query of an absolute form, and the host that it names (RFC 9112 section 3.2.2, 3.2.4)."""
    if target == b"*":
        if method != b"OPTIONS":
            raise Refused(400, "the target * is for OPTIONS alone")
        return target, None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or len(absolute[1]) > MAX_HOST or not _HOST.fullmatch(absolute[1]):
        raise Refused(400, "the target is neither a path nor an http URL")
    rest: bytes = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest, absolute[1]


def _with_host(fields: Fields, authority: bytes) -> Fields:
    """The host of an absolute form counts, whatever the Host header says, and whoever is behind us is told that one."""
    return Fields([Field(b"Host", authority), *[field for field in fields.all if field.kind != HOST]])
