"""What the product logs while a test runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class Said(dict[str, Any]):
    """The fields of a line. One that is absent and one that is null say the same."""

    def __missing__(self, _name: str) -> None:
        return None


@dataclass
class Heard:
    """Stands where the lines of a process go out."""

    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    """What is not JSON."""

    def line(self, level: int, message: str, fields: dict[str, Any]) -> None:
        self.lines.append((message, Said(fields)))

    def text(self, line: bytes) -> None:
        self.texts.append(line)

    def flush(self) -> None:
        """Nothing waits here."""

    def messages(self) -> list[str]:
        return [message for message, _ in self.lines]
