"""YAML text to a tree of nodes, each with its place in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml.reader import ReaderError

from sluice.config.problems import Malformed, Problem, quoted

START = "begin with version: 1"


@dataclass(frozen=True, slots=True)
class Document:
    root: yaml.MappingNode | None
    """None: there is nothing to read, and `problems` says why."""
    problems: tuple[Problem, ...]


def parse(content: bytes, source: str) -> Document:
    """Compose only: no YAML tag ever makes an object, and every value stays the text that was written."""
    try:
        root = _root(_compose(_decode(content)))
    except _Unreadable as error:
        return Document(None, (error.problem(source),))
    return Document(root, tuple(error.problem(source) for error in _bad_keys(root, "", set())))


class _Unreadable(Malformed):
    def __init__(self, line: int, column: int, message: str, hint: str, key: str = "") -> None:
        super().__init__(message, hint)
        self.line = line
        self.column = column
        self.key = key

    def problem(self, source: str) -> Problem:
        return Problem(self.line, self.column, self.key, self.message, self.hint, source)


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        raise _Unreadable(*_place(before), "this byte is not UTF-8", "save the file as UTF-8") from None


def _compose(text: str) -> list[yaml.Node]:
    try:
        return list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except RecursionError:
        raise _Unreadable(1, 1, "nested too deeply", "write fewer brackets") from None
    except ReaderError as error:
        place = _place(text[: error.position])
        raise _Unreadable(*place, "a character that YAML does not allow", "remove it") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax(error) from None


def _syntax(error: yaml.MarkedYAMLError) -> _Unreadable:
    mark = error.problem_mark or error.context_mark
    place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    message = f"not YAML: {error.problem or error.context}"
    if "'\\t'" in message:
        return _Unreadable(*place, message, "indent with spaces")
    return _Unreadable(*place, message, "check the indentation, and quote a value that holds { } [ ] # or a colon")


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _root(documents: list[yaml.Node]) -> yaml.MappingNode:
    if not documents:
        raise _Unreadable(1, 1, "the file is empty", START)
    if len(documents) > 1:
        raise _Unreadable(*_start(documents[1]), "a second document begins here", "keep one and remove the ---")
    (root,) = documents
    if not isinstance(root, yaml.MappingNode):
        empty = root.tag == "tag:yaml.org,2002:null"
        raise _Unreadable(*_start(root), "the file is empty" if empty else "the file is not a mapping", START)
    return root


def _bad_keys(node: yaml.Node, path: str, seen: set[int]) -> Iterator[_Unreadable]:
    if id(node) in seen:  # an alias, which may even hold itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _bad_keys(item, f"{path}[{index}]", seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            yield from _bad_key(key, path, lines)
            yield from _bad_keys(value, f"{path}.{key.value}".lstrip("."), seen)


def _bad_key(key: yaml.Node, path: str, lines: dict[str, int]) -> Iterator[_Unreadable]:
    if not isinstance(key, yaml.ScalarNode):
        yield _Unreadable(*_start(key), "a list or a mapping cannot be a key", "quote it if it is text", path)
        return
    name = f"{path}.{key.value}".lstrip(".")
    if key.value in lines:
        yield _Unreadable(*_start(key), f"{quoted(key.value)} is already on line {lines[key.value]}", "keep one", name)
    lines.setdefault(key.value, key.start_mark.line + 1)


def _start(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
