"""Patterns of paths. Pure; raises Malformed."""

from __future__ import annotations

import re

from sluice.config.problems import Malformed, quoted

LITERAL = re.compile(r"[^\s*{}?#\\]*")
CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,31})\}")


def pattern(text: str) -> str:
    """`/` and segments: literal, `*` (one), `{name}` (one, captured), and as the last one `**` (the rest)."""
    if not text.startswith("/"):
        raise Malformed(f"{quoted(text)} does not begin with /", "write /api/sessions/{session}/**")
    segments = text[1:].split("/")
    if "" in segments[:-1] or "." in segments or ".." in segments:
        raise Malformed(f"{quoted(text)} has an empty, . or .. segment", "write it without; requests are normalised")
    if "**" in segments[:-1]:
        raise Malformed(f"{quoted(text)} has ** in the middle", "write * for one segment; ** is the rest of the path")
    for segment in segments:
        _check(segment)
    names = captures(text)
    if len(set(names)) < len(names):
        raise Malformed(f"{quoted(text)} captures one name twice", "give each segment its own name")
    return text


def captures(text: str) -> tuple[str, ...]:
    """The names in a pattern."""
    return tuple(match[1] for match in map(CAPTURE.fullmatch, text.split("/")) if match)


def segments(text: str) -> tuple[str, ...]:
    return tuple(text.strip("/").split("/")) if text != "/" else ()


def covers(one: str, other: str) -> bool:
    """Whether every path that the other pattern matches is matched by this one."""
    wide, narrow = segments(one), segments(other)
    if wide[-1:] == ("**",):
        wide = wide[:-1]
        fixed = [segment for segment in narrow if segment != "**"]
        narrow = tuple(fixed[: len(wide)])
    return len(wide) == len(narrow) and all(map(_covers, wide, narrow))


def _covers(one: str, other: str) -> bool:
    return other != "**" and (one == other or one == "*" or one.startswith("{"))


def _check(segment: str) -> None:
    if segment not in ("*", "**") and not CAPTURE.fullmatch(segment) and not LITERAL.fullmatch(segment):
        raise Malformed(f"the segment {quoted(segment)} is not known", "write a literal, *, {name} or a last **")
