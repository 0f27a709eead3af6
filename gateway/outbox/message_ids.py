"""Where webhooks about a message that was sent name it, and the same webhook with another id in that place. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.request import Json
from sluice.http import lenient_json

_RECEIPT = "/data/message_id"
POINTERS: Final[Mapping[str, str]] = {
    "message_sent": "/data/message/id",
    "message_status_updated": _RECEIPT,
    "message_delivered": _RECEIPT,
    "message_read": _RECEIPT,
}
"""By event type (contract, section 4)."""
MAX_BODY: Final = 2**20
"""Bytes of a webhook that is looked into: one about a message that was sent carries no media."""
_MAX_TOKENS = 20_000
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]:,]', re.DOTALL)
_QUOTE, _ESCAPE = b'"', b"\\"
_SAFE = re.compile(r"[!#-\[\]-~]+")
"""What stands in a JSON string as it is."""


def id_in(event: str, json: Json) -> str | None:
    """What it calls the message; None: it names none."""
    found = json.at(POINTERS[event])
    return found if isinstance(found, str) and found else None


def renamed(event: str, body: bytes, old: str, new: str) -> bytes | None:
    """The body with `new` where `old` stood; every other byte is as it was. None: it stands where nobody finds it."""
    span = _span(body, POINTERS[event].split("/")[1:])
    if span is None or not _SAFE.fullmatch(new):
        return None
    start, end = span
    if _text(body[start:end]) != old:
        return None
    return b'%b"%b"%b' % (body[:start], new.encode(), body[end:])


def _span(body: bytes, path: list[str]) -> tuple[int, int] | None:
    """Of the string to which these keys lead, with its quotes; of several under one key the last, as parsers have it.
    `body` is JSON."""
    if len(body) > MAX_BODY:
        return None
    at: list[str | None] = []
    """The key that is open in each object around; None in an array."""
    found, is_key = None, False
    for number, token in enumerate(_TOKEN.finditer(body)):
        sign = token[0][:1]
        if number > _MAX_TOKENS:
            return None
        if sign == _QUOTE and is_key:
            at[-1] = _text(token[0])
        elif sign == _QUOTE and at == path:
            found = token.span()
        elif sign in b"{[":
            at.append("" if sign == b"{" else None)
        elif sign in b"}]":
            at.pop()
        is_key = sign == b"{" or (sign == b"," and bool(at) and at[-1] is not None)
    return found


def _text(token: bytes) -> str:
    if _ESCAPE not in token:
        return token[1:-1].decode("utf-8", "replace")
    return str(lenient_json.loads(token))
