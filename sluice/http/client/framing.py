"""Where a message begins and ends: the bytes of a request head, and what a response's fields say about its length.

Pure functions. A proxy and an upstream that disagree here are what request smuggling is made of (RFC 9112 §11.2), so
whatever can be read in two ways is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from sluice.http.errors import BadFraming, BadHead
from sluice.http.fields import CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, Fields

Headers = Sequence[tuple[bytes, bytes]]

TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
NOT_IN_TARGET: Final = bytes(range(0x21)) + b"\x7f"


@dataclass(frozen=True, slots=True)
class Framing:
    """How the end of a request's body is known: `length` bytes, or None for chunks. `field` is what we add for it."""

    length: int | None
    field: bytes


NO_BODY: Final = Framing(0, b"")
CHUNKED: Final = Framing(None, b"Transfer-Encoding: chunked")


def sized(length: int) -> Framing:
    """A body of `length` bytes; we write the Content-Length."""
    return Framing(length, b"Content-Length: %d" % length)


def stated(length: int) -> Framing:
    """A body of `length` bytes; the caller's own headers already carry that Content-Length, and it stays in place."""
    return Framing(length, b"") if length else NO_BODY


def request_head(method: bytes, target: bytes, headers: Headers, framing: Framing) -> bytes:
    """The head as one piece. Raises BadHead if any part of it could be read as something else (RFC 9112 §3, §5)."""
    lines = [method + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers]
    if framing.field:
        lines.append(framing.field)
    ends = len(lines) + 1
    lines += (b"", b"")
    head = b"\r\n".join(lines)
    # Only our own line ends may be in it: counting them is much cheaper than looking into every field.
    if head.count(b"\r") != ends or head.count(b"\n") != ends or head.count(b"\0"):
        raise BadHead("CR, LF or NUL in a request head")
    _check_request_line(method, target)
    _check_fields(headers, framing)
    return head


def _check_request_line(method: bytes, target: bytes) -> None:
    if not method or method.translate(None, TOKEN):
        raise BadHead("a method must be a token")
    if method == b"CONNECT":
        raise BadHead("tunnels are not spoken here")
    if not target or len(target.translate(None, NOT_IN_TARGET)) != len(target):
        raise BadHead("a target must not be empty nor hold blanks or control characters")


def _check_fields(headers: Headers, framing: Framing) -> None:
    names = [name for name, _ in headers]
    together = b"\n".join(names)
    if names and (not all(names) or len(together.translate(None, TOKEN)) != len(names) - 1):
        raise BadHead("a header name must be a token")
    lowered = together.lower()
    # `in` would try them as numbers first, which takes ten times as long.
    if lowered.count(b"content-length") or lowered.count(b"transfer-encoding") or framing.length:
        _check_lengths(headers, framing)


def _check_lengths(headers: Headers, framing: Framing) -> None:
    lengths = 0
    for name, value in headers:
        size = len(name)
        if size == 17 and name.lower() == b"transfer-encoding":
            raise BadHead("Transfer-Encoding is written by the connection alone")
        if size == 14 and name.lower() == b"content-length":
            lengths += 1
            if framing.field or _number(value) != framing.length:
                raise BadHead("Content-Length differs from how the body is sent")
    if framing.length and not framing.field and lengths != 1:
        raise BadHead("the stated Content-Length must be there once")


def _number(value: bytes) -> int | None:
    digits = value.strip(b" \t")
    return int(digits) if digits.isdigit() and len(digits) < 20 else None


class Ending(Enum):
    CHUNKS = "chunks"
    CLOSE = "close"
    """Only the end of the connection ends this body (RFC 9112 §6.3, rule 8)."""


def ending_of(status: int, current: bool, fields: Fields, *, head_only: bool) -> Ending | int:
    """How a response's body ends; a number: after so many bytes. `current`: HTTP/1.1, not 1.0. Raises BadFraming."""
    framed = fields.kinds & (CONTENT_LENGTH | TRANSFER_ENCODING)
    if framed == CONTENT_LENGTH | TRANSFER_ENCODING or fields.repeated & framed:
        raise BadFraming("the length is said more than once")
    length = 0
    if framed == CONTENT_LENGTH:
        length = fields.length()
        if length < 0:
            raise BadFraming("content-length is not a number")
    elif framed and ((fields.first(TRANSFER_ENCODING) or b"").lower() != b"chunked" or not current):
        raise BadFraming("transfer-encoding is not chunked, or in HTTP/1.0")
    if head_only or status in (204, 304):
        return 0
    if framed == CONTENT_LENGTH:
        return length
    return Ending.CHUNKS if framed else Ending.CLOSE


def stays_open(current: bool, fields: Fields) -> bool:
    """Whether the sender means to keep the connection (RFC 9112 §9.3), by its fields alone."""
    if not fields.kinds & CONNECTION:
        return current
    options = fields.options()
    return b"close" not in options and (current or b"keep-alive" in options)
