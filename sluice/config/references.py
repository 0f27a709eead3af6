"""Names that one section defines and another one uses.

They are looked up among the keys as written, so that a mistake inside a definition does not make its name unknown, and
sections can be read in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches

import yaml

from sluice.config.fields import Value
from sluice.config.problems import Malformed, quoted


def one_of_section(kind: str, *section: str) -> Callable[[Value], str]:
    """A parser: one of the names that this section of the file gives."""

    def parse_reference(value: Value) -> str:
        text, names = value.text(), names_in(value.reading.root, *section)
        if text in names:
            return text
        close = get_close_matches(text, names, n=1)
        known = f"there are: {', '.join(names)}" if names else f"define it under {'.'.join(section)}"
        raise Malformed(f"no {kind} is called {quoted(text)}", f"did you mean {close[0]}" if close else known)

    return parse_reference


def names_in(node: yaml.Node, *path: str) -> tuple[str, ...]:
    for step in path:
        entries = node.value if isinstance(node, yaml.MappingNode) else ()
        found = [value for key, value in entries if key.value == step]
        if not found:
            return ()
        node = found[0]
    return tuple(str(key.value) for key, _ in node.value) if isinstance(node, yaml.MappingNode) else ()


signature = one_of_section("signature", "signatures")
