"""Laravel's answer to `accounts/active`, and what is left of it for one worker. Pure.

    {"success": true, "sessions": [{"session_id": …, "workspace_id": …, "provider_type": "webjs", …}, …], "count": 2}

Items are taken out of the list, and `count` says how many are left. All else stays as it was, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from sessions.division import Account
from sluice.http import foreign_json
from sluice.http.foreign_json import TooManyValues

_OURS = "webjs"
_BLANKS = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(strict=False)  # whatever a worker can read must be read here
_BOM = "\ufeff"
_MAX_VALUES = 1_000_000
"""They are read one account after the other, beside the event loop."""
_MAX_NAME = 200
_MAX_WORKSPACE = 2**63


class Unreadable(ValueError):
    """What a worker would make of this is not known. The message says why."""


@dataclass(frozen=True, slots=True)
class _Item:
    text: str
    account: Account | None
    """None: nobody is to start it."""


@dataclass(frozen=True, slots=True)
class _Span:
    """Of the text, what is written anew: the list, or with `items` None the count."""

    begin: int
    end: int
    items: tuple[_Item, ...] | None


class ActiveAccounts:
    def __init__(self, text: str, spans: list[_Span]) -> None:
        self._text = text
        self._spans = spans
        self._items = next(span.items for span in spans if span.items is not None)
        self.accounts = [item.account for item in self._items if item.account is not None]
        """Each session once."""

    @property
    def left_out(self) -> int:
        """How many items are no session for a worker: of another provider, without a name, or there twice."""
        return len(self._items) - len(self.accounts)

    def only(self, sessions: Container[str]) -> bytes:
        """The answer with these sessions and no others."""
        kept = [item.text for item in self._items if item.account is not None and item.account.session in sessions]
        written, at = list[str](), 0
        for span in self._spans:
            written += (self._text[at : span.begin], str(len(kept)) if span.items is None else f"[{','.join(kept)}]")
            at = span.end
        written.append(self._text[at:])
        return "".join(written).encode("utf-8", "surrogateescape")


def read(body: bytes) -> ActiveAccounts | None:
    """None: it has no list of sessions, so nobody starts any by it. Raises Unreadable."""
    try:
        foreign_json.refuse_many(body, _MAX_VALUES)
    except TooManyValues as error:
        raise Unreadable(str(error)) from None
    text = body.decode("utf-8", "surrogateescape")
    try:
        spans = _spans(text)
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except Unreadable:
        raise
    except (ValueError, IndexError) as error:
        raise Unreadable(f"it is not JSON ({error})") from None
    lists = sum(span.items is not None for span in spans)
    if lists > 1:
        raise Unreadable("it has two lists of sessions")
    return ActiveAccounts(text, spans) if lists else None


def _spans(text: str) -> list[_Span]:
    """Raises ValueError or IndexError where it is no JSON."""
    spans: list[_Span] = []
    at = _blanks(text, len(_BOM) if text.startswith(_BOM) else 0)
    if text[at] != "{":
        _, at = _DECODER.raw_decode(text, at)
    else:
        at = _blanks(text, at + 1)
        while text[at] != "}":
            name, at = _DECODER.raw_decode(text, at)
            at = _blanks(text, _after(text, at, ":"))
            if name == "sessions" and text[at] == "[":
                items, end = _items(text, at)
                spans.append(_Span(at, end, items))
            else:
                value, end = _DECODER.raw_decode(text, at)
                if name == "count" and type(value) is int:
                    spans.append(_Span(at, end, None))
            at = _blanks(text, end)
            if text[at] != "}":
                at = _blanks(text, _after(text, at, ","))
        at += 1
    if _blanks(text, at) != len(text):
        raise ValueError("more follows")
    return spans


def _items(text: str, at: int) -> tuple[tuple[_Item, ...], int]:
    """Of the list that begins there, and where it ends."""
    found: list[_Item] = []
    seen: set[str] = set()
    at = _blanks(text, at + 1)
    while text[at] != "]":
        value, end = _DECODER.raw_decode(text, at)
        account = _account(value)
        if account is not None and account.session in seen:
            account = None
        if account is not None:
            seen.add(account.session)
        found.append(_Item(text[at:end], account))
        at = _blanks(text, end)
        if text[at] != "]":
            at = _blanks(text, _after(text, at, ","))
    return tuple(found), at + 1


def _account(item: Any) -> Account | None:
    """None where a worker has nothing to start. It would start a session of another provider too, by mistake."""
    if not isinstance(item, dict) or item.get("provider_type") not in (None, _OURS):
        return None
    session = item.get("session_id")
    if not isinstance(session, str) or not 0 < len(session) <= _MAX_NAME or not session.isprintable():
        return None
    return Account(session, _workspace(item.get("workspace_id")))


def _workspace(given: object) -> int:
    if isinstance(given, str) and re.fullmatch(r"[0-9]{1,18}", given):
        given = int(given)
    return given if type(given) is int and 0 <= given < _MAX_WORKSPACE else 0


def _blanks(text: str, at: int) -> int:
    """Where they end."""
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _after(text: str, at: int, sign: str) -> int:
    """Behind this sign, which comes next. Raises ValueError."""
    at = _blanks(text, at)
    if text[at] != sign:
        raise ValueError(f"no {sign} at {at}")
    return at + 1
