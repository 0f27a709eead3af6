"""Which sessions are busy, as this process sees them: what is asked of them, and what comes from them.

A session that is busy is not moved (`sessions/rebalancing.py`). Each gateway tells the store once a second.
"""

from __future__ import annotations

from collections import Counter

from sessions.registry import Registry
from sluice.store.client import StoreAway, StoreRefused

EVERY = 1.0
"""Seconds between two reports."""
MAX_BYTES = 4 * 2**20
"""Of names, of one report; where there are more, all sessions count as busy."""
_UNPLACED = 1000
_SIZE = 100
"""Bytes of an entry beside its name."""


class Activity:
    """Of one process."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._under_way: Counter[str] = Counter()
        self._unplaced: set[str] = set()
        self._bytes = 0
        self._complete = True

    def note(self, session: str) -> None:
        """Something came from it."""
        if session in self._seen:
            return
        self._bytes += len(session) + _SIZE
        if self._bytes > MAX_BYTES:
            self._complete = False
        else:
            self._seen.add(session)

    def begin(self, session: str) -> None:
        """Something is being asked of it, until `end`."""
        if session:
            self._under_way[session] += 1

    def end(self, session: str) -> None:
        if session:
            self._under_way[session] -= 1
            if not self._under_way[session]:
                del self._under_way[session]
            self.note(session)

    def found_no_room(self, session: str) -> None:
        """All workers were full when it was to be created."""
        if len(self._unplaced) < _UNPLACED:
            self._unplaced.add(session)

    async def report(self, registry: Registry) -> None:
        """While the store is away nothing is told, and then nobody moves anything."""
        busy, unplaced, complete = [*(self._seen | self._under_way.keys())], [*self._unplaced], self._complete
        self._seen.clear()
        self._unplaced.clear()
        self._bytes, self._complete = 0, True
        try:
            await registry.note_activity(busy, unplaced, complete=complete)
        except (StoreAway, StoreRefused):
            self._complete = False
