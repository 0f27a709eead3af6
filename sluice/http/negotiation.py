"""Whether whoever asks is a person or a program, by what it accepts (RFC 9110 section 12.5.1). No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sluice.http.fields import Fields

_MAX_ACCEPT = 2048
"""Bytes of it that are read; what is longer is no browser's."""
_LINE = re.compile(rb"\r\naccept:[ \t]*([^\r\n]*)", re.IGNORECASE)
_QUALITY = re.compile(rb"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_ANY = frozenset((b"", b"*/*", b"application/json"))
_PAGE = b"text/html"
_JSON = (b"application/problem+json", b"application/json")


def accepted(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """What the Accept fields among these say together. Names in lower case."""
    return b",".join([value for name, value in pairs if name == b"accept"])


def accepted_by(fields: Fields) -> bytes:
    """The same of the fields of a head."""
    return b",".join([field.value for field in fields.all if field.key == b"accept"])


def accepted_in(head: bytes) -> bytes:
    """The same of a head that could not be read: a browser whose cookies are too large is to get a page, too."""
    return b",".join(_LINE.findall(head))


def wants_page(accept: bytes) -> bool:
    """Whether a page is preferred to JSON. Who prefers neither, or says nothing, is a program."""
    if accept in _ANY or len(accept) > _MAX_ACCEPT:
        return False
    ranges = _ranges(accept.lower())
    return _quality(_PAGE, ranges) > max(_quality(one, ranges) for one in _JSON)


def _ranges(accept: bytes) -> dict[bytes, float]:
    """The quality of each media range. One that is not understood is as if it were not there."""
    found: dict[bytes, float] = {}
    unquoted = b"".join(accept.split(b'"')[::2])  # a comma between quotation marks begins no other range
    for item in unquoted.split(b","):
        media, *parameters = [part.strip(b" \t") for part in item.split(b";")]
        weights = [part[2:] for part in parameters if part.startswith(b"q=")]
        if not weights:
            found[media] = 1.0
        elif _QUALITY.fullmatch(weights[0]):
            found[media] = max(found.get(media, 0.0), float(weights[0]))
    return found


def _quality(media: bytes, ranges: dict[bytes, float]) -> float:
    """By the most specific range that includes it; 0: it is not acceptable."""
    for one in (media, media.partition(b"/")[0] + b"/*", b"*/*"):
        if one in ranges:
            return ranges[one]
    return 0.0
