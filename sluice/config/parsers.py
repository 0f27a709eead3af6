"""Parsers of single values and lists, from which the sections are put together."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import TypeVar

from sluice.config import units
from sluice.config.fields import TEXT, Schema, Value
from sluice.config.model import Secret
from sluice.config.problems import Malformed, one_of, quoted
from sluice.config.secrets import Unresolved, secret

T = TypeVar("T")
Word = TypeVar("Word", bound=str)
LONGEST = 200
NAME = re.compile(r"[a-z0-9_-]{1,32}")
EVENT_TYPE = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
EVENT_GLOB = re.compile(r"[A-Za-z0-9_.:/*-]{1,128}")
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
POINTER = re.compile(r"(/([^~/]|~[01])*)+")


def pattern(regex: str) -> Schema:
    """Of text that no number looks like."""
    return {"type": "string", "pattern": f"^(?:{regex})$"}


DURATION, SIZE = r"[0-9]{1,15}(?:ms|s|m|h|d)", r"[0-9]{1,15}(?:B|KiB|MiB|GiB)"
_TEXTS: dict[object, Schema] = {
    units.duration: pattern(DURATION),
    units.size: pattern(SIZE),
    units.rate: pattern(r"\s*[0-9]+\s*(?:/|\s+per\s+)\s*[0-9]*\s*[A-Za-z]+\s*"),
    units.percentage: pattern(units.PERCENTAGE.pattern),
}
"""What texts may look like, by their parsers."""


def of(parse: Callable[[str], T]) -> Callable[[Value], T]:
    """A parser of values from one of text."""

    def parse_value(value: Value) -> T:
        value.takes(_TEXTS.get(parse, TEXT))
        return parse(value.text())

    return parse_value


duration, size, rate, until = of(units.duration), of(units.size), of(units.rate), of(units.until)


def duration_or_none(value: Value) -> float:
    """0: none."""
    value.takes(pattern(f"{DURATION}|none"))
    text = value.text()
    if text == "none":
        return 0.0
    try:
        return units.duration(text)
    except Malformed as malformed:
        raise Malformed(malformed.message, f"{malformed.hint}, or none") from None


def matching(regex: re.Pattern[str], what: str, cure: str) -> Callable[[str], str]:
    def parse_text(text: str) -> str:
        if not regex.fullmatch(text):
            raise Malformed(f"{quoted(text)} is not {what}", cure)
        return text

    _TEXTS[parse_text] = {**pattern(regex.pattern), **TEXT}
    return parse_text


name = matching(NAME, "a name", "write 1 to 32 of a-z 0-9 _ -")
event_type = matching(EVENT_TYPE, "an event type", "write message_received")
event_glob = matching(EVENT_GLOB, "an event type", "write message_received, or session_* for many")
header_name = matching(TOKEN, "the name of a header", "write X-Event-Type")
json_pointer = matching(POINTER, "a JSON pointer", "write /data/session_id; ~ is ~0 and / in a key ~1")
"""RFC 6901, without the empty one: a whole document is no event type and no session."""


def each(parse: Callable[[Value], T]) -> Callable[[Value], tuple[T, ...]]:
    """A list whose bad items are noted one by one, and left out."""

    def parse_items(value: Value) -> tuple[T, ...]:
        found = [item.attempt(parse, None) for item in value.items()]
        return tuple(one for one in found if one is not None)

    return parse_items


def one_or_each(parse: Callable[[Value], T]) -> Callable[[Value], tuple[T, ...]]:
    """A list, or one item without the brackets."""
    return lambda value: each(parse)(value) if value.is_list else (parse(value),)


def named(parse: Callable[[str, Value], T], key: Callable[[str], str] = name) -> Callable[[Value], dict[str, T]]:
    """A mapping from names that people give. A bad entry is noted and left out."""

    def parse_entries(value: Value) -> dict[str, T]:
        found: dict[str, T] = {}
        with value.fields() as fields:
            for written, entry in fields.named():
                given = written.attempt(of(key), "")
                one = entry.attempt(partial(parse, given), None)
                if one is not None:
                    found[given] = one
        return found

    return parse_entries


def choice(*options: Word) -> Callable[[Value], Word]:
    def parse_word(value: Value) -> Word:
        value.takes({"enum": list(options)})
        text = value.text()
        for option in options:
            if text == option:
                return option
        close = get_close_matches(text, options, n=1)
        cure = f"did you mean {close[0]}" if close and len(options) > 1 else f"write {one_of(options)}"
        raise Malformed(f"{quoted(text)} is not known here", cure)

    return parse_word


BOOLEAN: Schema = {"type": "boolean"}


def boolean(value: Value) -> bool:
    value.takes(BOOLEAN)
    return choice("true", "false")(value) == "true"


def count(value: Value) -> int:
    """A whole number from 1 on. YAML would read `010` as eight and `1:30` as ninety."""
    value.takes({"type": "integer", "minimum": 1, "maximum": units.MAX_AMOUNT})
    text = value.text()
    if value.tag != "int" or not re.fullmatch(r"0|[1-9][0-9_]{0,17}", text):
        raise Malformed(f"{quoted(text)} is not a whole number", "write digits, without quotes")
    if text == "0":
        raise Malformed("0 is too small", "write 1 or more")
    if (number := int(text.replace("_", ""))) > units.MAX_AMOUNT:
        raise Malformed(f"{text} is too much", f"write {units.MAX_AMOUNT} or less")
    return number


def ratio(value: Value) -> float:
    value.takes({"type": "number", "exclusiveMinimum": 0, "maximum": 1})
    text = value.text()
    if value.tag not in ("int", "float") or not re.fullmatch(r"-?[0-9]{0,9}\.?[0-9]{1,9}", text):
        raise Malformed(f"{quoted(text)} is not a number", "write 0.5")
    number = float(text)
    if not 0 < number <= 1:
        raise Malformed(f"{text} is out of range", "write more than 0 and at most 1")
    return number


def note(text: str) -> str:
    if not text.isprintable() or len(text) > LONGEST:
        raise Malformed(f"is over {LONGEST} characters or not on one line", "write a ticket or a name")
    return text


def subject_glob(text: str) -> str:
    """A session or workspace, `*` for any rest: names are not ours, so what else may stand in one stays open."""
    if not 0 < len(text) <= LONGEST or not text.isprintable():
        raise Malformed(f"{quoted(text)} is not a name", "write session-17, or vip-* for many")
    return text


SECRET = pattern("env:[A-Za-z_][A-Za-z0-9_]*|file:.+")


def secret_value(value: Value) -> Secret:
    value.takes(SECRET)
    reading = value.reading
    try:
        found = secret(value.text(), reading.environment, reading.source.parent.resolve())
    except Unresolved:
        if reading.need_secrets:
            raise
        return Secret(b"")
    reading.secrets[value.key] = found
    return found
