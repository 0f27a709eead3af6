"""`sluice diff`: what an edit of the policies changes, in words."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path

import orjson

from sluice.config import AddressList, Policies, Rate, Route, Secret, load

_NOT_MEANT = {"source", "revision", "warnings", "line"}
_NEXT_START = ("listen", "data", "store", "sessions.lease")


def run(old: Path, new: Path, *, as_json: bool) -> int:
    """The exit code, as of diff(1): 0 nothing changes, 1 something does."""
    before, after = load(old, need_secrets=False), load(new, need_secrets=False)
    changes = list(differences(before, after))
    if as_json:
        rows = [{"key": key, "old": was, "new": now, "needs_restart": _later(key)} for key, was, now in changes]
        sys.stdout.write(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{_said(*change)}\n" for change in changes) or "they say the same\n")
    return 1 if changes else 0


def differences(before: Policies, after: Policies) -> Iterator[tuple[str, str | None, str | None]]:
    """Key, old and new value, None where there is none. A secret is only ever said to have changed."""
    old, new = dict(_flat("", before)), dict(_flat("", after))
    for key in dict.fromkeys((*old, *new)):
        was, now = old.get(key), new.get(key)
        if was != now:
            yield (
                (key, _text(was), _text(now))
                if key in old and key in new
                else (
                    key,
                    _text(was) if key in old else None,
                    _text(now) if key in new else None,
                )
            )
    order = [[_name(route, i) for i, route in enumerate(policies.routes)] for policies in (before, after)]
    common = [[name for name in names if name in order[1 - i]] for i, names in enumerate(order)]
    if common[0] != common[1]:
        yield "routes", ", ".join(common[0]), ", ".join(common[1])


def _flat(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, AddressList):
        for entry in value.entries:
            yield f"{path}.{entry.network}", entry
    elif is_dataclass(value) and not isinstance(value, (Rate, type)):
        for one in fields(value):
            if one.name not in _NOT_MEANT and not one.name.startswith("_"):
                yield from _flat(f"{path}.{one.name}" if path else one.name, getattr(value, one.name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{path}.{name}", inner)
    elif isinstance(value, tuple) and any(is_dataclass(inner) for inner in value):
        for i, inner in enumerate(value):
            yield from _flat(f"{path}.{_name(inner, i)}", inner)
    else:
        yield path, value


def _name(value: object, index: int) -> str:
    if isinstance(value, Route):
        return " ".join((*sorted(value.methods), value.path))
    return str(getattr(value, "id", index))


def _text(value: object) -> str:
    if isinstance(value, Secret):
        return "***"
    if value is None or value == () or value == "":
        return "none"
    if isinstance(value, (tuple, frozenset)):
        return ", ".join(sorted(map(_text, value)) if isinstance(value, frozenset) else map(_text, value))
    if is_dataclass(value) and not isinstance(value, Rate):
        said = [f"{one.name} {_text(getattr(value, one.name))}" for one in fields(value)]
        return ", ".join(said)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _said(key: str, was: str | None, now: str | None) -> str:
    notes = ["at the next start"] if _later(key) else []
    if key.startswith("limits.") and key.endswith((".rate", ".burst")) and was is not None and now is not None:
        notes.append("buckets keep their level")
    note = f" ({', '.join(notes)})" if notes else ""
    if was is None:
        return f"{key} is new: {now}{note}"
    if now is None:
        return f"{key} is gone; it was {was}{note}"
    return f"{key} changes{'' if '***' in (was, now) else f' from {was} to {now}'}{note}"


def _later(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in _NEXT_START)
