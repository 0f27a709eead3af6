"""Modules of JavaScript as one script, so that a browser asks once: each in a scope of its own, after those it imports.

Read are `import … from "./…";` of names or of the default, and `export` before a declaration, of names in braces, or of
a default. A browser with the modules themselves would do the same, but for cycles, which are refused here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

_IMPORT = re.compile(r'\bimport\s*(\{[^}]*\}|[\w$]+)\s*from\s*"(\.[^"]+)";?')
_NAMED = re.compile(r"\bexport\s*\{([^}]*)\};?")
_DECLARED = re.compile(r"^export (?=(?:async function|function|class|const) ([\w$]+))", re.MULTILINE)
_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)
_DEFAULT = re.compile(r"\bexport default\b")


def bundled(modules: Mapping[str, str], entry: str) -> str:
    """`modules`: by path, as they name each other. Raises ValueError for a cycle, KeyError for what is not there."""
    done, under_way, parts = set[str](), set[str](), list[str]()

    def add(path: str) -> None:
        if path in done:
            return
        if path in under_way:
            raise ValueError(f"{path} imports itself by way of others")
        under_way.add(path)
        text = modules[path]
        for _, other in _IMPORT.findall(text):
            add(_beside(path, other))
        parts.append(_scoped(path, text))
        done.add(path)

    add(entry)
    return "".join(parts)


def _beside(path: str, other: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), other))


def _scoped(path: str, text: str) -> str:
    exported = {name: name for name in _DECLARED.findall(text)}
    for names in _NAMED.findall(text):
        for one in names.split(","):
            inner, _, outer = one.strip().partition(" as ")
            exported[outer or inner] = inner
    text, defaults = _DEFAULT.subn("const $default =", text)
    if defaults:
        exported["default"] = "$default"
    text = _MAP.sub("", _DECLARED.sub("", _NAMED.sub("", text)))
    text = _IMPORT.sub(lambda found: f"const {_taken(found[1])} = {_name(_beside(path, found[2]))};", text)
    given = ", ".join(f"{outer}: {inner}" for outer, inner in exported.items())
    return f"const {_name(path)} = (() => {{\n{text}\nreturn {{ {given} }};\n}})();\n"


def _taken(names: str) -> str:
    return re.sub(r"([\w$]+) as ", r"\1: ", names) if names.startswith("{") else f"{{ default: {names} }}"


def _name(path: str) -> str:
    return "$" + re.sub(r"\W", "_", path)
