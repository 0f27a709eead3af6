"""What is leased before there is room for it, so that an attempt that ends finds its successor here: pure bookkeeping.

Four times as many as end between two turns, and the next turn is asked for when a quarter of them is gone: so the store
has always something to do, and what it takes to answer is covered, though turns are not alike.

Where attempts are long hardly one ends meanwhile, and all is left to the process that has room for it.
"""

from __future__ import annotations

from collections import deque

from relay.event import Delivery
from relay.gathering import Posts

LONGEST = 0.1
"""Seconds after which what has waited here is given back: another process may have room for it."""


class Ahead:
    """`most` may be leased beyond those under way; 0: none."""

    def __init__(self, most: int) -> None:
        self.wanted = 0
        """How many there should be after a turn."""
        self._most = most
        self._ended = 0
        self._ready: deque[tuple[list[Delivery], float]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def is_low(self) -> bool:
        """A quarter of it is gone, or more: time for a turn."""
        return 4 * len(self._ready) <= 3 * self.wanted

    def note_ended(self) -> None:
        """An attempt."""
        self._ended += 1

    def note_turn(self) -> None:
        """One begins. Where one attempt has ended, it finds a successor in time."""
        self.wanted = min(self._most, max(4 * (self._ended - 1), self.wanted // 2))
        self._ended = 0

    def add(self, posts: Posts, now: float) -> None:
        """`now` in seconds by the monotonic clock."""
        self._ready.extend((post, now) for post in posts)

    def take(self) -> list[Delivery] | None:
        """The deliveries of the POST that has waited longest."""
        return self._ready.popleft()[0] if self._ready else None

    def give_back(self, now: float | None = None) -> list[Delivery]:
        """Takes out those that have waited too long; all, where there is no `now`."""
        back: list[Delivery] = []
        while self._ready and (now is None or now - self._ready[0][1] >= LONGEST):
            back += self._ready.popleft()[0]
        return back
