"""JSON Schema of what a parser takes, found by running it: so a key that is declared for reading is in the schema, too.

A parser is run on a stand-in for a value, once for each form that YAML has: a single value, a list, a mapping. What it
asks of the stand-in is what it takes. Parsers of single values say what they take (`Value.takes`); a mapping is run
twice, as if none of its keys were there and as if all were.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import yaml

from sluice.config import parsers, units
from sluice.config.fields import NOTHING, SETTING, TEXT, Fields, Reading, Schema, Value
from sluice.config.model import Rate
from sluice.config.problems import Malformed

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Name = TypeVar("Name", bound=str)
Section = TypeVar("Section", bound="DataclassInstance")
Parse = Callable[[Value], object]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def of(parse: Parse) -> Schema:
    """What may stand where this parser reads."""
    forms = [form for kind in (_Single, _List, _Mapping) if (form := kind.of(parse))]
    return forms[0] if len(forms) == 1 else {"anyOf": forms} if forms else {}


class _StandIn:
    """A value that only notes what is asked of it. Whatever does not fit its form is refused as `Value` does it."""

    def __init__(self) -> None:
        self.key, self.line, self.tag = "", 1, "str"
        self.node = yaml.MappingNode("tag:yaml.org,2002:map", [])
        self.reading = Reading(Path(), self.node, {}, need_secrets=False)
        self.is_mapping = self.is_list = False

    def takes(self, schema: Schema) -> None:
        raise Malformed("is no single value", "")

    def text(self) -> str:
        self.takes(TEXT)
        raise AssertionError

    def shown(self) -> str:
        raise Malformed("is not read, only told of", "")

    def items(self) -> list[Value]:
        raise Malformed("is no list", "")

    def fields(self, about: Mapping[str, str] = NOTHING) -> Fields:
        raise Malformed("is no mapping", "")

    def note(self, malformed: Malformed) -> None:
        """Nothing is wrong with what is not there."""


def _run(parse: Parse, stand_in: object) -> bool:
    """Whether it would be taken."""
    with contextlib.suppress(Malformed):
        parse(cast(Value, stand_in))
        return True
    return False


class _Single(_StandIn):
    found: Schema | None = None

    @classmethod
    def of(cls, parse: Parse) -> Schema | None:
        one = cls()
        _run(parse, one)
        return one.found

    def takes(self, schema: Schema) -> None:
        self.found = schema
        raise Malformed("is enough", "")


class _List(_StandIn):
    found: Schema | None = None

    @classmethod
    def of(cls, parse: Parse) -> Schema | None:
        one = cls()
        one.is_list = True
        _run(parse, one)
        return one.found

    def items(self) -> list[Value]:
        self.found = {"type": "array"}
        return [cast(Value, _Noted(self._item))]

    def _item(self, parse: Parse) -> None:
        self.found = {"type": "array", "items": of(parse)}


class _Noted(_StandIn):
    """An item or an entry, whose parser is what counts."""

    def __init__(self, note: Callable[[Parse], None]) -> None:
        super().__init__()
        self._note = note

    def attempt(self, parse: Callable[[Value], T], stand_in: T) -> T:
        self._note(parse)
        return stand_in


class _Mapping(_StandIn):
    @classmethod
    def of(cls, parse: Parse) -> Schema | None:
        without, with_all = cls(there=False), cls(there=True)
        may_be_empty = _run(parse, without)
        _run(parse, with_all)
        if without.keys is None or with_all.keys is None:
            return None
        found = without.keys.beside(with_all.keys)
        return found if may_be_empty else {**found, "minProperties": 1}

    def __init__(self, *, there: bool) -> None:
        super().__init__()
        self.is_mapping = True
        self.keys: _Keys | None = None
        self._there = there

    def fields(self, about: Mapping[str, str] = NOTHING) -> Fields:
        self.keys = _Keys(about, there=self._there)
        return cast(Fields, self.keys)


class _Keys:
    """The keys of a mapping, as `Fields` is asked for them."""

    def __init__(self, about: Mapping[str, str], *, there: bool) -> None:
        self._about = about
        self.properties: dict[str, Schema] = {}
        self.required: list[str] = []
        self._there = there
        self._names: Schema | None = None
        self._others: Schema | None = None
        self._one_of: Sequence[str] = ()

    def beside(self, with_all: _Keys) -> Schema:
        """What these keys, of an empty mapping, and those of a full one say together."""
        properties = {**with_all.properties, **self.properties}
        found: Schema = {"type": "object", "properties": properties, "additionalProperties": self._others or False}
        if required := [name for name in self.required if name in with_all.required]:
            found["required"] = required
        if instead := [name for name in self.required if name not in with_all.required]:
            others = [name for name in with_all.properties if name not in self.properties]
            found["anyOf"] = [{"required": [name]} for name in (*instead, *others)]
        if self._names:
            found["propertyNames"] = self._names
        if self._one_of:
            found["oneOf"] = [{"required": [name]} for name in self._one_of]
        return found

    def __enter__(self) -> _Keys:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def __len__(self) -> int:
        return len(self.properties) if self._there else 0

    def __contains__(self, name: str) -> bool:
        return self._there

    def take(self, name: str, parse: Callable[[Value], T], default: T) -> T:
        form = of(parse)
        may_be_left_out = name not in self.required and name not in self._one_of
        if may_be_left_out and (written := in_the_file(default, form)) is not None:
            form = {**form, "default": written}
        if name in self._about:
            form = {**form, "description": self._about[name]}
        self.properties[name] = form
        return default

    def need(self, name: str, parse: Callable[[Value], T], stand_in: T, cure: str) -> T:
        self.required.append(name)
        return self.take(name, parse, stand_in)

    def only_one(self, names: Sequence[Name], without: str) -> Name | None:
        self._one_of = names
        return None

    def read(self, section: type[Section], **known: Any) -> Section:
        found = Fields.read(cast(Fields, self), section, **known)
        for name, text in _explained(section).items():
            if name in self.properties:
                self.properties[name] = {**self.properties[name], "description": text}
        return found

    def named(self) -> Iterator[tuple[Value, Value]]:
        yield cast(Value, _Noted(self._name)), cast(Value, _Noted(self._entry))

    def _name(self, parse: Parse) -> None:
        self._names = of(parse)

    def _entry(self, parse: Parse) -> None:
        self._others = of(parse)

    def wrong(self, name: str, malformed: Malformed) -> None:
        """Nothing is wrong with what is not there."""

    def sound(self, *names: str) -> bool:
        return False


def in_the_file(default: object, form: Schema) -> str | int | float | bool | list[str] | None:
    """A default as a person would write it; None: it stands for the key's absence, or has no short form."""
    match default:
        case bool():
            return default if form == parsers.BOOLEAN else None
        case int() if "pattern" not in form:
            return default if default >= 1 else None
        case str() if default and default in form.get("enum", (default,)):
            return default
        case Path():
            return str(default)
        case Rate():
            return _rate(default)
        case frozenset():
            return sorted(map(str, default)) or None
        case (str(), *_) if all(isinstance(one, str) for one in cast(tuple[object, ...], default)):
            return list(cast(tuple[str, ...], default))
        case int() | float():
            return _number(default, form)
    return None


def _number(number: float, form: Schema) -> str | float | None:
    match form:
        case {"pattern": str() as pattern} if parsers.DURATION in pattern:
            absent = next((word for word in ("none", "off") if pattern.endswith(f"|{word})$")), None)
            return _in_units(round(number * 1000), _MILLISECONDS) if number else absent
        case {"pattern": str() as pattern} if parsers.SIZE in pattern:
            return _in_units(round(number), units.BYTES)
        case {"pattern": str() as pattern} if units.PERCENTAGE.pattern in pattern:
            return f"{number:.0%}"
        case {"type": "number"}:
            return number
    return None


_MILLISECONDS = {unit: round(seconds * 1000) for unit, seconds in units.SECONDS.items()}
_PERIODS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}


def _rate(rate: Rate) -> str | None:
    for period, name in sorted(_PERIODS.items(), reverse=True):
        if rate.period % period == 0:
            number = round(rate.period / period)
            return f"{rate.amount}/{name}" if number == 1 else f"{rate.amount}/{number} {name}s"
    return None


def _in_units(number: int, factors: Mapping[str, int]) -> str:
    """In the largest unit in which it is a whole number."""
    unit = max((unit for unit, factor in factors.items() if number % factor == 0), key=lambda unit: factors[unit])
    return f"{number // factors[unit]}{unit}"


@lru_cache
def _explained(section: type[DataclassInstance]) -> dict[str, str]:
    """By key, what stands below its attribute in the source."""
    try:
        (found,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    except OSError:  # no source at hand
        return {}
    body = found.body if isinstance(found, ast.ClassDef) else []
    texts = {}
    for one, following in itertools.pairwise(body):
        match one, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    settings = [it for it in fields(section) if SETTING in it.metadata]
    return {it.metadata[SETTING].name or it.name: texts[it.name] for it in settings if it.name in texts}
