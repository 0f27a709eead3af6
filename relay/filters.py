"""Which endpoints an event is for. No I/O."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache


@lru_cache(maxsize=4096)
def takes(patterns: tuple[str, ...], event_type: str) -> bool:
    """Whether one of the patterns matches; without patterns every event type does."""
    return not patterns or any(fnmatchcase(event_type, pattern) for pattern in patterns)
