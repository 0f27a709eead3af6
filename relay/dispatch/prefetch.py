"""What is leased before there is room for it, so that an attempt that ends finds its successor here: pure bookkeeping.

Twice as many as end between two turns, and besides as many as will be gone when the turn is answered: so neither has
the process to wait for the store, nor the store for its next turn.

Where attempts are long hardly one ends meanwhile, and all is left to the process that has room for it.
"""

from __future__ import annotations

from collections import deque

from relay.dispatch.batching import Posts
from relay.queue.codec import Delivery

LONGEST = 0.1
"""Seconds after which what has waited here is given back: another process may have room for it."""


class Prefetch:
    """For so many attempts at once; 0: none is leased ahead."""

    def __init__(self, concurrency: int) -> None:
        self.wanted = 0
        """How many there should be when the turn is answered."""
        self._most = 6 * concurrency
        self._enough = max(1, concurrency // 2)
        self._ended = 0
        self._going = 0
        self._ready: deque[tuple[list[Delivery], float]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def is_time(self) -> bool:
        """For the next turn: enough have ended to make it worth its while, or nothing is left here."""
        return not self._ready or self._ended >= self._enough

    @property
    def room(self) -> int:
        """For how many more, in the turn that has begun."""
        return self.wanted + self._going - len(self._ready)

    def note_ended(self) -> None:
        """An attempt."""
        self._ended += 1

    def note_turn(self) -> None:
        """One begins. Where one attempt has ended, it finds a successor in time.

        As many as ended since the one before will go from here before this one is answered.
        """
        self.wanted = min(self._most, max(2 * (self._ended - 1), self.wanted // 2))
        self._going = min(self._ended, len(self._ready))
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
