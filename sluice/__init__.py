"""What is not the edge, the relay or the sessions: command line, console, and the ground all of them stand on."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__version__ = "0.2.0.dev0"


@cache
def commit() -> str:
    """Of which commit this is: as `SLUICE_COMMIT` says, else as the checkout does; `unknown` where neither is there."""
    given = os.environ.get("SLUICE_COMMIT", "")
    try:
        repository = Path(__file__).parent.parent / ".git"
        head = (repository / "HEAD").read_text().strip()
        named = head.removeprefix("ref: ")
        found = head if named == head else (repository / named).read_text().strip()
    except OSError:
        found = "unknown"
    return (given or found)[:12]


def is_compiled() -> bool:
    """Whether the hot path is (docs/decisions/0006), or all is plain Python: the same, and slower."""
    from sluice.process import boottime

    return not boottime.__file__.endswith(".py")
