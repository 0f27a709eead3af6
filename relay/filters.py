"""Which endpoints an event is for. No I/O."""

from __future__ import annotations

from fnmatch import fnmatchcase

from sluice.process.cache import Cache

_taken: Cache[tuple[tuple[str, ...], str], bool] = Cache(2**20)


def takes(patterns: tuple[str, ...], event_type: str) -> bool:
    """Whether one of the patterns matches; without patterns every event type does."""
    if not patterns:
        return True
    known = _taken.get((patterns, event_type))
    if known is not None:
        return known
    takes = any(fnmatchcase(event_type, pattern) for pattern in patterns)
    return _taken.keep((patterns, event_type), takes, event_type.__sizeof__())
