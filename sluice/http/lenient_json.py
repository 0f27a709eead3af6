"""JSON as senders write it: what others than orjson read is read here, too.

JavaScript cuts an emoji in two and writes half of it ("\\ud83d"), a file begins with a byte order mark, a number is too
large for a float. Whoever only carries such a body must be able to find a session in it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from sluice.http import foreign_json
from sluice.http.foreign_json import TooManyValues

_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_PAIR, _HALF = rb"[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}", rb"[dD][89a-fA-F][0-9a-fA-F]{2}"
_ESCAPE = re.compile(rb"\\(?:u(?:%b|(%b))|.)" % (_PAIR, _HALF), re.DOTALL)
"""One escape, whole: what follows a backslash that is escaped itself is none."""
MAX_VALUES = 25_000
"""About so many values are read by the standard library, which takes ten times as long as the fast parser."""
MAX_CHECKED = 2_000_000
"""Values of a body of which a relay has to know that it is JSON: nobody waits for a relay as for a gateway."""
_MAX_ESCAPES = 50_000
"""Backslashes of a body in which halves of characters are looked for."""
_MAX_REPLACED = 256 * 1024
"""Bytes of a body that is no UTF-8, and in which each wrong byte takes its time."""
_MAX_DIGITS = 20


def loads(body: bytes, most: int = foreign_json.MAX_VALUES) -> Any:
    """What is in the body, of at most `most` values. Half an emoji is U+FFFD, an infinite number `inf`; no string has a
    lone surrogate in it.

    Raises ValueError, with the reason in words.
    """
    try:
        return foreign_json.loads(body, most)
    except TooManyValues:
        raise
    except ValueError as error:
        why = str(error)
    if body.startswith(_GZIP):
        raise ValueError("it is compressed with gzip")
    text = _whole_characters(body.removeprefix(_BOM))
    if text is None:
        raise ValueError(why)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    try:
        foreign_json.refuse_many(text, MAX_VALUES)
        return json.loads(text.decode(), parse_int=_integer, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError(why) from None


def is_json(body: bytes) -> bool:
    """Whether it is JSON as RFC 8259 has it, which can stand in an array: UTF-8 without a byte order mark. False as
    well of what has over `MAX_CHECKED` values, which is not looked at."""
    try:
        loads(body, MAX_CHECKED)
        body.decode()
    except ValueError:
        return False
    return not body.startswith(_BOM)


def _whole_characters(body: bytes) -> bytes | None:
    """Without halves of characters, neither escaped ones nor bytes that are no UTF-8. None: it takes too long."""
    if body.count(b"\\") > _MAX_ESCAPES:
        return None
    body = _ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], body)
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace").encode() if len(body) <= _MAX_REPLACED else None
    return body


def _integer(digits: str) -> int | float:
    """As orjson has it: a float beyond 64 bits."""
    number = int(digits) if len(digits) <= _MAX_DIGITS else None
    return number if number is not None and -(2**63) <= number < 2**64 else float(digits)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
