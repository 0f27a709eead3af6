"""Names that one section defines and another one uses.

They are looked up among the keys as written, so that a mistake inside a definition does not make its name unknown, and
sections can be read in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import yaml

from sluice.config.fields import Value
from sluice.config.problems import Malformed, quoted


@dataclass(frozen=True, slots=True)
class Defined:
    """The names in one section."""

    kind: str
    section: str
    names: tuple[str, ...]

    def one(self, value: Value) -> str:
        """Parser: one of these names."""
        text = value.text()
        if text in self.names:
            return text
        close = get_close_matches(text, self.names, n=1)
        known = f"there are: {', '.join(self.names)}" if self.names else f"define it under {self.section}"
        raise Malformed(f"no {self.kind} is called {quoted(text)}", f"did you mean {close[0]}" if close else known)


def defined(kind: str, root: yaml.Node, *section: str) -> Defined:
    """The names that this section of the file gives."""
    return Defined(kind, ".".join(section), _names(root, *section))


def _names(node: yaml.Node, *path: str) -> tuple[str, ...]:
    for step in path:
        entries = node.value if isinstance(node, yaml.MappingNode) else ()
        found = [value for key, value in entries if key.value == step]
        if not found:
            return ()
        node = found[0]
    return tuple(str(key.value) for key, _ in node.value) if isinstance(node, yaml.MappingNode) else ()
