"""Which route a request meets. Matched on a normalised copy; what is forwarded is never touched here. No I/O.

Routes to workers ignore the case of letters, as the workers do. Where a route depends on the path (`reading_of_path`),
a path that others may read differently is refused: it would be limited as one and understood as another.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.path_readings import WHAT, is_ambiguous, readings
from gateway.policies import ReadingOfPath, Route, ToWorkers
from gateway.problems import BadPath
from sluice.process.cache import Cache

AMBIGUOUS: Final = "this path can be read in more than one way"
_RESERVED: Final = b"/_sluice"
_REST: Final = "**"
_SIZE: Final = 600
"""Bytes of what is known of a path, apart from what is foreign in it."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def is_reserved(target: bytes) -> bool:
    """Whether a target, which may have a query, is answered by `gateway/reserved.py` and never by a route."""
    if not target.startswith(b"/_") and target.find(b"%") < 0:
        return False
    path = unquote_to_bytes(target.partition(b"?")[0])
    return path == _RESERVED or path.startswith(_RESERVED + b"/")


@dataclass(frozen=True, slots=True)
class Match:
    route: Route
    captured: Mapping[str, str]
    index: int
    """Its place among the routes."""


class Routes:
    """The routes of the policies; the first that matches wins. `on`: the listener whose requests they take."""

    def __init__(self, routes: Sequence[Route], on: str = "", by_path: Sequence[ReadingOfPath] = ()) -> None:
        """`by_path`: of each route; empty: no path is refused."""
        taking = [(i, route) for i, route in enumerate(routes) if not route.on or on in route.on]
        self._routes = [(i, route, _pattern_of(route)) for i, route in taking]
        self._by_path = by_path
        self._found: Cache[tuple[str, bytes], tuple[Match | None]] = Cache(4 * 2**20)

    def match(self, method: str, raw_path: bytes) -> Match | None:
        """Raises BadPath."""
        known = self._found.get((method, raw_path))
        if known is None:
            found = (self._find(method, raw_path),)
            known = self._found.keep((method, raw_path), found, _SIZE + len(method) + 5 * len(raw_path))
        return known[0]

    def _find(self, method: str, raw_path: bytes) -> Match | None:
        segments = segments_of(raw_path)
        match = self._first(method, segments)
        if match is not None and self._by_path and is_ambiguous(raw_path, segments):
            self._refuse_ambiguous(method, match, readings(raw_path, segments))
        return match

    def _refuse_ambiguous(self, method: str, ours: Match, read: Collection[tuple[str, ...]]) -> None:
        """Raises BadPath where one of these readings leads to a route that depends on which of them is right."""
        if self._by_path[ours.index] == "here":
            return
        matches = [self._first(method, segments) for segments in read]
        met = {(match.index, tuple(match.captured.items())): match.route for match in matches if match is not None}
        differ = len(met) > 1 or None in matches
        for (index, _), route in sorted(met.items(), key=lambda one: one[0]):
            which = self._by_path[index]
            if (which == "whole" and len(read) > 1) or (which == "match" and differ):
                raise BadPath(
                    f"{AMBIGUOUS} ({WHAT}), and the route {route.path} depends on it; "
                    "write it plainly, or ambiguous_paths: allow at that route"
                )

    def _first(self, method: str, segments: tuple[str, ...]) -> Match | None:
        folded = tuple([segment.lower() for segment in segments])
        for index, route, pattern in self._routes:
            if route.methods and method not in route.methods:
                continue
            captured = _captured(pattern, segments, folded if isinstance(route.action, ToWorkers) else segments)
            if captured is not None:
                return Match(route, captured, index)
        return None


def segments_of(raw_path: bytes) -> tuple[str, ...]:
    """The path as the strictest reader behind us would understand it.

    Percent-decoded once, `%2F` too; empty segments and `.` left out, `..` resolved: an encoded or doubled path cannot
    slip past a route. Raises BadPath for control characters and for a way out of the root.
    """
    decoded = unquote_to_bytes(raw_path).decode("utf-8", "surrogateescape")
    if _CONTROL.search(decoded):
        raise BadPath("control characters in the path")
    segments: list[str] = []
    for segment in decoded.replace("\\", "/").split("/"):
        if segment == "..":
            if not segments:
                raise BadPath("the path leads out of the root")
            segments.pop()
        elif segment and segment != ".":
            segments.append(segment)
    return tuple(segments)


def _pattern_of(route: Route) -> tuple[str, ...]:
    segments = route.path.strip("/").split("/") if route.path != "/" else []
    if not isinstance(route.action, ToWorkers):
        return tuple(segments)
    return tuple([segment if segment.startswith("{") else segment.lower() for segment in segments])


def _captured(pattern: Sequence[str], segments: Sequence[str], compared: Sequence[str]) -> Mapping[str, str] | None:
    """What the pattern's names stand for, or None when it does not match. `**` stands for any rest, also none.

    `compared`: the segments, as literals are compared with them.
    """
    if pattern and pattern[-1] == _REST:
        pattern = pattern[:-1]
        if len(segments) < len(pattern):
            return None
        segments = segments[: len(pattern)]
    if len(pattern) != len(segments):
        return None
    captured: dict[str, str] = {}
    for at, expected in enumerate(pattern):
        if expected.startswith("{"):
            captured[expected[1:-1]] = segments[at]
        elif expected not in ("*", compared[at]):
            return None
    return captured
