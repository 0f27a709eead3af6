"""What is wrong with a policies file, and the cure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

MAX_QUOTE = 80


class Malformed(Exception):
    """A value that cannot be read. Raised by parsers, which know nothing of where the value stands."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. Line and column count from 1; line 0: the file as a whole."""

    line: int
    column: int
    key: str
    message: str
    hint: str
    source: str = "policies.yaml"

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return ": ".join(filter(None, (place, self.key, f"{self.message}; {self.hint}")))


class PolicyError(Exception):
    """The file must not go live. `problems` holds everything that was found, in the file's order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(map(str, self.problems)))


def quoted(text: str) -> str:
    """The text as a message shows it: on one line, and no longer than a person wants to read."""
    short = text if len(text) <= MAX_QUOTE else text[:MAX_QUOTE] + "…"
    return json.dumps(short, ensure_ascii=False)


def one_of(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last
