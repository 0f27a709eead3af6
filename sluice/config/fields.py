"""A node with its key, a mapping whose keys are taken one by one, and sections that declare their keys.

A parser is a function from `Value` that raises Malformed. `Fields.take` and `each` note what was raised at the value's
place and go on with a stand-in, so that one reading finds every problem; nobody sees a stand-in, because a reading
with problems makes no policies. What was never taken is refused by name when the `with` block ends.

A section is a dataclass, each attribute of which declares its key: `timeout: float = setting(parsers.duration, 10.0)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from sluice.config.model import Secret
from sluice.config.problems import Malformed, Problem, one_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
Name = TypeVar("Name", bound=str)
Section = TypeVar("Section", bound="DataclassInstance")
Schema = dict[str, Any]
"""JSON Schema, as JSON."""
TEXT: Schema = {"type": ["string", "number", "boolean"]}
"""A single value is text to us, whatever YAML takes it for."""
SETTING = "setting"
NOTHING: Mapping[str, str] = {}
KINDS = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}
CURES = {
    yaml.MappingNode: "write {key: value}",
    yaml.SequenceNode: "write [a, b]",
    yaml.ScalarNode: "write one value",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of one file."""

    source: Path
    root: yaml.Node
    environment: Mapping[str, str]
    need_secrets: bool
    problems: list[Problem] = field(default_factory=list)
    secrets: dict[str, Secret] = field(default_factory=dict)
    """Those that were read, by their keys."""

    def note(self, node: yaml.Node, key: str, malformed: Malformed) -> None:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self.problems.append(Problem(line, column, key, malformed.message, malformed.hint, str(self.source)))


@dataclass(frozen=True, slots=True)
class Value:
    key: str
    node: yaml.Node
    reading: Reading

    @property
    def line(self) -> int:
        return self.node.start_mark.line + 1

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def tag(self) -> str:
        """`str`, `int`, `float`, `bool`, … as YAML takes the value."""
        return self.node.tag.rpartition(":")[2]

    def at(self, *path: str | int) -> Value:
        """What stands there, or the nearest around it that was written."""
        if not path:
            return self
        step, *rest = path
        if self.is_list and isinstance(step, int):
            return self.items()[step].at(*rest)
        for key, node in self.node.value if self.is_mapping else ():
            if key.value == step:
                return Value(f"{self.key}.{step}".lstrip("."), node, self.reading).at(*rest)
        return self

    def takes(self, schema: Schema) -> None:
        """Says what single value is read here: for `sluice schema`, which reads nothing and asks everything."""

    def text(self) -> str:
        """What was written, whatever YAML takes it for: `5`, `on` and `1:30` are text here."""
        self._must_be(yaml.ScalarNode)
        return str(self.node.value)

    def shown(self) -> str:
        """A single value where none may stand, for the message that refuses it."""
        self._must_be(yaml.ScalarNode)
        return str(self.node.value)

    def items(self) -> list[Value]:
        self._must_be(yaml.SequenceNode)
        return [Value(f"{self.key}[{i}]", node, self.reading) for i, node in enumerate(self.node.value)]

    def fields(self, about: Mapping[str, str] = NOTHING) -> Fields:
        """`about`: what its keys say, for `sluice schema`, where no section declares them."""
        self._must_be(yaml.MappingNode)
        return Fields(self)

    def note(self, malformed: Malformed) -> None:
        self.reading.note(self.node, self.key, malformed)

    def attempt(self, parse: Callable[[Value], T], stand_in: T) -> T:
        try:
            return parse(self)
        except Malformed as malformed:
            self.note(malformed)
            return stand_in

    def _must_be(self, kind: type[yaml.Node]) -> None:
        if self.tag == "null":
            raise Malformed("is empty", "give it a value or remove it")
        if not isinstance(self.node, kind):
            raise Malformed(f"is {KINDS[type(self.node)]}, not {KINDS[kind]}", CURES[kind])


class Fields:
    def __init__(self, mapping: Value) -> None:
        self._mapping = mapping
        self._entries: dict[str, tuple[Value, Value]] = {}
        for key, node in mapping.node.value:
            if isinstance(key, yaml.ScalarNode):
                path = f"{mapping.key}.{key.value}".lstrip(".")
                entry = Value(path, key, mapping.reading), Value(path, node, mapping.reading)
                self._entries.setdefault(key.value, entry)
        self._known: list[str] = []
        self._refused: set[str] = set()

    def __enter__(self) -> Fields:
        return self

    def __exit__(self, *_: object) -> None:
        for name, (key, _value) in self._entries.items():
            if name not in self._known and name not in self._refused:
                close = get_close_matches(name, self._known, n=1)
                cure = f"did you mean {close[0]}" if close else f"known here: {', '.join(self._known)}"
                key.note(Malformed("unknown key", cure))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def take(self, name: str, parse: Callable[[Value], T], default: T) -> T:
        """The parsed value, or the default where the key is absent."""
        self._known.append(name)
        if name not in self._entries:
            return default
        try:
            return parse(self._entries[name][1])
        except Malformed as malformed:
            self.wrong(name, malformed)
            return default

    def need(self, name: str, parse: Callable[[Value], T], stand_in: T, cure: str) -> T:
        """Like `take`, but the key must be there."""
        if name not in self._entries:
            self._refused.add(name)
            reading, key = self._mapping.reading, f"{self._mapping.key}.{name}".lstrip(".")
            reading.note(self._mapping.node, key, Malformed("is missing", f"write {cure}"))
        return self.take(name, parse, stand_in)

    def only_one(self, names: Sequence[Name], without: str) -> Name | None:
        """The key of these that is there; noted is when it is none (`without` says what that means) or several."""
        given = [name for name in names if name in self]
        if not given:
            self._mapping.note(Malformed(without, f"add {one_of(names)}"))
        if len(given) > 1:
            self._mapping.note(Malformed(f"has {' and '.join(given)}", "keep one of them"))
        return given[0] if given else None

    def read(self, section: type[Section], **known: Any) -> Section:
        """A section from the keys that it declares, in their order, and from what is known of it already."""
        for attribute in fields(section):
            if SETTING in attribute.metadata and attribute.name not in known:
                declared: Setting = attribute.metadata[SETTING]
                known[attribute.name] = declared.take(self, declared.name or attribute.name)
        return section(**known)

    def named(self) -> Iterator[tuple[Value, Value]]:
        """Every entry, where the keys are names that people give; first the key, then its value."""
        self._known.extend(self._entries)
        return iter(self._entries.values())

    def wrong(self, name: str, malformed: Malformed) -> None:
        """Note a problem at the value of `name`."""
        self._refused.add(name)
        self._entries[name][1].note(malformed)

    def sound(self, *names: str) -> bool:
        """Whether nothing was wrong with these, so that they can be compared with each other."""
        return self._refused.isdisjoint(names)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a section."""

    parse: Callable[[Value], Any]
    default: Any
    """Where the key must be there, it only stands in until all problems are found."""
    name: str
    """In the file; empty: as the attribute."""
    missing: str
    """What to write if the key is not there; empty: it may be left out."""

    def take(self, fields: Fields, name: str) -> Any:
        if self.missing:
            return fields.need(name, self.parse, self.default, self.missing)
        return fields.take(name, self.parse, self.default)


def setting(parse: Callable[[Value], T], default: T, *, name: str = "", missing: str = "") -> T:
    """Declares the key of a dataclass's attribute. `Setting` says what the parameters are."""
    return field(default_factory=lambda: default, metadata={SETTING: Setting(parse, default, name, missing)})


def section(
    declared: type[Section], check: Callable[[Section, Fields], None] | None = None
) -> Callable[[Value], Section]:
    """The parser of a mapping with these keys and no others. `check` compares them with each other."""

    def parse_section(value: Value) -> Section:
        with value.fields() as fields:
            found = fields.read(declared)
            if check:
                check(found, fields)
            return found

    return parse_section
