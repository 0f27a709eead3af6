"""What a file says, key by key, in its author's own words: by it an edit is described."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import yaml

from sluice.config import units
from sluice.config.model import Secret
from sluice.config.problems import Malformed

Path = tuple[str, ...]
_MASKED = "***"
_MAX_SHOWN = 120
_UNITS: tuple[Callable[[str], object], ...] = (units.duration, units.size, units.rate)


@dataclass(frozen=True, slots=True)
class Written:
    """One value. `secret`: what an `env:` or `file:` stood for, or a value that must not be shown."""

    items: tuple[str, ...]
    secret: Secret | None = None

    def says_the_same(self, other: Written) -> bool:
        """`60s` and `1m` say the same."""
        return self.secret == other.secret and [_value(one) for one in self.items] == [
            _value(one) for one in other.items
        ]


@dataclass(frozen=True, slots=True)
class Change:
    """`old` None: the key is new; `new` None: it is gone. A secret is only ever said to have changed."""

    key: str
    old: str | None
    new: str | None

    def __str__(self) -> str:
        if self.old is None:
            return f"{self.key} is new: {self.new}"
        if self.new is None:
            return f"{self.key} is gone; it was {self.old}"
        return f"{self.key} changes" + ("" if self.old == self.new else f" from {self.old} to {self.new}")


def changes(before: Mapping[Path, Written], after: Mapping[Path, Written]) -> Iterator[Change]:
    """In the order of the older file; what is new follows. Of what is new or gone as a whole inside a section one
    change is told."""
    whole = _prefixes(after), _prefixes(before)
    described: set[Path] = set()
    for path in dict.fromkeys((*before, *after)):
        old, new = before.get(path), after.get(path)
        if old is not None and new is not None:
            if not old.says_the_same(new):
                yield Change(".".join(path), *_both(old, new))
            continue
        side, other_prefixes = (before, whole[0]) if new is None else (after, whole[1])
        tops = [path[:size] for size in range(min(2, len(path)), len(path) + 1) if path[:size] not in other_prefixes]
        if not tops:
            continue  # it is empty on one side, and what the other side has there is told
        top = tops[0]
        if top not in described:
            described.add(top)
            text = _shorten(", ".join(_described(top, one, side[one]) for one in side if one[: len(top)] == top))
            yield Change(".".join(top), text, None) if new is None else Change(".".join(top), None, text)


def written(root: yaml.Node, secrets: Mapping[str, Secret]) -> dict[Path, Written]:
    """By path. An item of a list is called by its `id`, name, path, network, kind or whom it is for, not by its
    number.

    `secrets`: those that were read, by the key that problems are told with (`signatures.workers.secret`).
    """
    found: dict[Path, Written] = {}
    for path, value in _walk(root, (), "", secrets):
        number, name = 2, path
        while name in found:
            name, number = (*path[:-1], f"{path[-1]} ({number})"), number + 1
        found[name] = value
    return found


def _walk(node: yaml.Node, path: Path, place: str, secrets: Mapping[str, Secret]) -> Iterator[tuple[Path, Written]]:
    if isinstance(node, yaml.MappingNode) and node.value:
        for name, value in node.value:
            yield from _walk(value, (*path, str(name.value)), f"{place}.{name.value}".lstrip("."), secrets)
    elif isinstance(node, yaml.SequenceNode) and not all(isinstance(item, yaml.ScalarNode) for item in node.value):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, _name(item, index)), f"{place}[{index}]", secrets)
    elif isinstance(node, yaml.ScalarNode):
        yield path, Written((str(node.value),), secrets.get(place))
    else:
        resolved = [secrets[f"{place}[{i}]"] for i in range(len(node.value)) if f"{place}[{i}]" in secrets]
        joined = Secret(b"\0".join(one.reveal() for one in resolved)) if resolved else None
        yield path, Written(tuple(str(item.value) for item in node.value), joined)


def _name(item: yaml.Node, index: int) -> str:
    if isinstance(item, yaml.ScalarNode):
        return str(item.value)
    entries = {key.value: value for key, value in item.value} if isinstance(item, yaml.MappingNode) else {}
    if "path" in entries:
        return " ".join((*sorted(_texts(entries.get("methods"))), *_texts(entries["path"])))
    for name in ("id", "name", "network", "url", "when"):
        if name in entries:
            return ", ".join(_texts(entries[name]))
    for name in ("session", "workspace", "list"):
        if name in entries:
            return f"{name} {', '.join(_texts(entries[name]))}"
    return str(index)


def _texts(node: yaml.Node | None) -> list[str]:
    if isinstance(node, yaml.SequenceNode):
        return [str(item.value) for item in node.value]
    return [str(node.value)] if isinstance(node, yaml.ScalarNode) else []


def _value(text: str) -> object:
    for parse in _UNITS:
        try:
            return parse(text)
        except Malformed:
            continue
    return text


def _both(old: Written, new: Written) -> tuple[str, str]:
    """Of long lists only what differs."""
    if max(len(", ".join(old.items)), len(", ".join(new.items))) <= _MAX_SHOWN:
        return _shown(old.items, old), _shown(new.items, new)
    removed = tuple(item for item in old.items if item not in set(new.items))
    added = tuple(item for item in new.items if item not in set(old.items))
    return _shown(removed, old), _shown(added, new)


def _shown(items: tuple[str, ...], value: Written) -> str:
    """`env:NAME` and `file:PATH` are no secrets; what else stands for one is."""
    if value.secret is not None and not all(item.startswith(("env:", "file:")) for item in items):
        return _MASKED
    return _shorten(", ".join(items) or "none")


def _described(top: Path, path: Path, value: Written) -> str:
    return " ".join((*path[len(top) :], _shown(value.items, value)))


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _prefixes(of: Mapping[Path, Written]) -> set[Path]:
    return {path[:size] for path in of for size in range(1, len(path) + 1)}
