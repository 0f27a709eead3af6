"""Dataclasses out of JSON: requests, read strictly, and the answers of another gateway, read leniently.

The types that a dataclass may have here are those that `sluice.console.openapi` can describe: str, int, float, bool,
datetime, Literal, `X | None`, tuples, `Mapping[str, X]`, dataclasses of these, and `Annotated[X, Bounds(…)]`, also with
a `Form(…)`. A name of a mapping may be annotated, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import orjson

from sluice.config.problems import MAX_QUOTE, one_of, quoted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a number, of the characters of a text or of the items of a list or mapping; both ends are allowed."""

    minimum: int
    maximum: int

    def hold(self, value: Any) -> bool:
        return self.minimum <= (value if isinstance(value, int | float) else len(value)) <= self.maximum


@dataclass(frozen=True, slots=True)
class Form:
    """What the whole of a text looks like: by a pattern, and in words, for whoever wrote something else."""

    pattern: str
    said: str

    def hold(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None


class Undecodable(Exception):
    """The message says what is wrong, and what would be right."""


def encode(value: object) -> bytes:
    """JSON, with moments in RFC 3339 and UTC."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def decode(kind: type[T], value: object, *, strict: bool = True, from_text: bool = False) -> T:
    """`strict`: an unknown name is refused. `from_text`: numbers and booleans come as text, as in a query.

    Raises Undecodable.
    """
    return cast(T, _dataclass(kind, value, "", _Mode(strict, from_text)))


@lru_cache(maxsize=256)
def types_of(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, annotations included."""
    return get_type_hints(kind, include_extras=True)


@dataclass(frozen=True, slots=True)
class _Mode:
    strict: bool
    from_text: bool


def _dataclass(kind: Any, value: object, place: str, mode: _Mode) -> object:
    if not isinstance(value, Mapping):
        raise Undecodable(f"{place}: send a JSON object" if place else "send a JSON object")
    types = types_of(kind)
    unknown = sorted(value.keys() - types.keys())
    if unknown and mode.strict:
        raise Undecodable(f"{quoted(unknown[0])} is not known here; there are {', '.join(sorted(types)) or 'none'}")
    found = {}
    for field in fields(kind):
        name = f"{place}.{field.name}" if place else field.name
        if field.name in value:
            found[field.name] = _member(types[field.name], value[field.name], name, mode)
        elif is_required(field):
            raise Undecodable(f"{name} is missing; it has to be {expected(types[field.name])}")
    return kind(**found)


def is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _member(kind: Any, value: object, place: str, mode: _Mode) -> object:
    try:
        return _value(kind, value, place, mode)
    except ValueError:
        raise Undecodable(f"{place}: {_shown(value, mode)} is not {expected(kind)}") from None


def _value(kind: Any, value: object, place: str, mode: _Mode) -> object:
    """Raises ValueError where this is wrong, and Undecodable where something within it is."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if value is None else _value(_without_none(arguments), value, place, mode)
    if origin is Annotated:
        return _constrained(_value(arguments[0], value, place, mode), arguments[1:])
    if origin is tuple and isinstance(value, list):
        return _items(arguments, value, place, mode)
    if origin is Mapping and isinstance(value, dict):
        return {
            _member(arguments[0], name, place, mode): _member(arguments[1], one, f"{place}.{name}", mode)
            for name, one in value.items()
        }
    if is_dataclass(kind):
        return _dataclass(kind, value, place, mode)
    return _scalar(kind, value, mode)


def _without_none(arguments: tuple[Any, ...]) -> Any:
    (kind,) = (one for one in arguments if one is not NoneType)
    return kind


def _constrained(value: Any, constraints: tuple[Bounds | Form, ...]) -> object:
    if not all(one.hold(value) for one in constraints):
        raise ValueError(value)
    return value


def _items(arguments: tuple[Any, ...], value: list[object], place: str, mode: _Mode) -> tuple[object, ...]:
    kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
    pairs = zip(kinds, value, strict=True)
    return tuple(_member(kind, one, f"{place}[{number}]", mode) for number, (kind, one) in enumerate(pairs))


def _scalar(kind: Any, value: object, mode: _Mode) -> object:
    """Raises ValueError."""
    if kind is Any or (get_origin(kind) is Literal and value in get_args(kind)):
        return value
    if kind is datetime and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None and 1 < moment.year < 9999:  # so that it has a time in UTC
            return moment.astimezone(UTC)
    if isinstance(value, str) and mode.from_text:
        if kind is bool and value in ("true", "false"):
            return value == "true"
        if kind is int and value.isascii() and value.isdigit() and len(value) < 19:
            return int(value)
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise ValueError(value)


def expected(kind: Any) -> str:
    """In words, for whoever wrote something else."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return f"{expected(_without_none(arguments))} or null"
    if origin is Annotated:
        forms = [one.said for one in arguments[1:] if isinstance(one, Form)]
        return forms[0] if forms else _expected_within(arguments[0], arguments[1])
    if origin is Literal:
        return one_of(quoted(one) for one in arguments)
    if origin is tuple:
        return "a list of texts" if arguments[0] is str else "a list"
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return "a moment such as 2026-01-31T12:00:00Z" if kind is datetime else names.get(kind, "a JSON object")


def _expected_within(kind: Any, bounds: Bounds) -> str:
    if kind in (int, float):
        return f"{expected(kind)} from {bounds.minimum} to {bounds.maximum}"
    unit = "characters" if kind is str else "items"
    return f"{expected(kind)} of at most {bounds.maximum} {unit}"


def _shown(value: object, mode: _Mode) -> str:
    if isinstance(value, str):
        return value if mode.from_text and value.isdigit() and len(value) < MAX_QUOTE else quoted(value)
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= MAX_QUOTE else text[:MAX_QUOTE] + "…"
