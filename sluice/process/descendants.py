"""Which processes are below another one, by Linux's own list."""

from __future__ import annotations

import os
from contextlib import suppress


def descendants(pid: int) -> list[int]:
    """All of them at this moment, the children of a child before it. None of a process that is gone."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                for child in map(int, children.read().split()):
                    found += (*descendants(child), child)
    return found
