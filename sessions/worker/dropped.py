"""Events that a worker could not pass on, whatever the reason: its log says each, and its beats how many lately."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_LATELY = 3600.0
_STALE = frozenset({"typing_indicator", "chat_state_updated", "presence"})
"""What nobody misses."""
_MOST = 10_000


class Dropped:
    """Of all sessions of one worker. `clock`: seconds that only go forward."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at: deque[float] = deque(maxlen=_MOST)
        self._unfound: set[str] = set()
        """Sessions in whose chats nobody has looked for it since."""

    def add(self, session: str, event: str) -> None:
        if event not in _STALE:
            self._at.append(self._clock())
            self._unfound.add(session)

    def lately(self) -> int:
        """How many within the last hour, up to ten thousand."""
        while self._at and self._at[0] <= self._clock() - _LATELY:
            self._at.popleft()
        return len(self._at)

    def of(self, session: str) -> bool:
        """Whether something of it is still to be looked for."""
        return session in self._unfound

    def found(self, session: str) -> None:
        """Its chats were looked through."""
        self._unfound.discard(session)
