"""How else than we do a path may be read by whoever gets it after us. Pure.

We forward a path byte for byte, and decide by what it normalises to. Who reads it differently sees another path than
the one that was limited or routed by. None of these readings is wrong; each is that of some server or framework:

    as decoded      `%2F` is a slash, `//` and `..` are segments like others (Laravel, by PHP's REQUEST_URI)
    by segment      each segment is decoded by itself, so `%2F` parts nothing (Express)
    resolved        the same, with `//`, `.` and `..` resolved before (RFC 3986 section 6.2.2.3)
    without `;`     what follows `;` in a segment is a parameter and no part of its name (Java's servlets)
    after index.php the front controller in front of a path says nothing (Symfony's Request::getPathInfo)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

Segments = tuple[str, ...]

_AMBIGUOUS = re.compile(rb"//|[;\\]|%(?:2[Ff]|5[Cc]|3[Bb])|/(?:\.|%2[Ee]){1,2}(?:/|$)")
_FRONT_CONTROLLER = "index.php"
WHAT = "it has //, a segment . or .., ; or \\, an encoded slash, or begins with index.php"


def is_ambiguous(raw_path: bytes, normalised: Segments) -> bool:
    """Whether there are two ways to read it at all. Percent-encoded letters are the same letters (RFC 3986 section
    6.2.2.2), and a slash at the end is left out by all."""
    return _AMBIGUOUS.search(raw_path) is not None or normalised[:1] == (_FRONT_CONTROLLER,)


def readings(raw_path: bytes, normalised: Segments) -> set[Segments]:
    """All of them, ours among them."""
    decoded = _decoded(raw_path).removeprefix("/").removesuffix("/").split("/")
    by_segment = tuple(map(_decoded, raw_path.removeprefix(b"/").removesuffix(b"/").split(b"/")))
    named = [segment.partition(";")[0] for segment in decoded]
    found = {normalised, tuple(decoded), by_segment, _resolved(by_segment), _resolved(named)}
    if normalised[:1] == (_FRONT_CONTROLLER,):
        found.add(normalised[1:])
    return found


def _decoded(raw: bytes) -> str:
    return unquote_to_bytes(raw).decode("utf-8", "surrogateescape")


def _resolved(segments: Sequence[str]) -> Segments:
    found: list[str] = []
    for segment in segments:
        if segment == "..":
            del found[-1:]
        elif segment not in ("", "."):
            found.append(segment)
    return tuple(found)
