"""What is leased before there is a free slot for it, so that an attempt that ends finds a successor here. No I/O.

Twice as many as end between two polls, and as many as will have left when the poll is answered: so the process does not
wait for the store, nor the store for its next poll. Where attempts are long hardly one ends meanwhile, and all is left
to the process that has a free slot for it.
"""

from __future__ import annotations

from collections import deque

from relay.dispatch.batching import Posts
from relay.queue.codec import Delivery

MAX_WAIT = 0.1
"""Seconds after which what waits here goes back: another process may have a free slot for it."""


class Prefetch:
    """For so many attempts at once; 0: nothing is prefetched."""

    def __init__(self, concurrency: int) -> None:
        self.wanted = 0
        """How many there should be when the poll is answered."""
        self._max = 6 * concurrency
        self._enough = max(1, concurrency // 2)
        self._ended = 0
        self._leaving = 0
        self._ready: deque[tuple[list[Delivery], float]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def is_poll_due(self) -> bool:
        """Enough have ended to make the next poll worth it, or nothing is left here."""
        return not self._ready or self._ended >= self._enough

    @property
    def capacity(self) -> int:
        """For how many more, in the poll that has begun."""
        return self.wanted + self._leaving - len(self._ready)

    def note_ended(self) -> None:
        """An attempt has ended."""
        self._ended += 1

    def note_poll(self) -> None:
        """A poll begins. Where only one attempt has ended, it finds a successor in time.

        As many as ended since the last poll began will leave before this one is answered.
        """
        self.wanted = min(self._max, max(2 * (self._ended - 1), self.wanted // 2))
        self._leaving = min(self._ended, len(self._ready))
        self._ended = 0

    def add(self, posts: Posts, now: float) -> None:
        """`now` in monotonic seconds."""
        self._ready.extend((post, now) for post in posts)

    def take(self) -> list[Delivery] | None:
        """The deliveries of the POST that has waited longest."""
        return self._ready.popleft()[0] if self._ready else None

    def take_stale(self, now: float) -> list[Delivery]:
        """Those that have waited too long."""
        stale: list[Delivery] = []
        while self._ready and now - self._ready[0][1] >= MAX_WAIT:
            stale += self._ready.popleft()[0]
        return stale

    def take_all(self) -> list[Delivery]:
        posts, self._ready = self._ready, deque()
        return [delivery for post, _ in posts for delivery in post]
