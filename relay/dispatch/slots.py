"""How many POSTs may be in flight to one endpoint, and which are."""

from __future__ import annotations

import asyncio

from relay.dispatch.batching import Posts
from relay.dispatch.permits import Permits
from relay.queue.codec import Delivery
from relay.queue.suspects import SUSPECT


class Slots:
    """At most `concurrency` POSTs, during a slow start fewer; of suspects one."""

    def __init__(self, concurrency: int, permits: Permits) -> None:
        self._concurrency = concurrency
        self._permits = permits
        self._tasks: dict[bytes, asyncio.Task[None]] = {}
        """By the lease of the first delivery of each POST."""
        self._suspect: bytes | None = None
        """The lease of the suspect that is in flight."""

    def __len__(self) -> int:
        return len(self._tasks)

    def free(self, now: float) -> int:
        """May be negative, as the maximum shrinks when a slow start begins."""
        return max(1, int(self._concurrency * self._permits.share(now))) - len(self._tasks)

    def occupy(self, deliveries: list[Delivery], task: asyncio.Task[None]) -> None:
        self._tasks[deliveries[0].lease] = task

    def release(self, deliveries: list[Delivery]) -> None:
        """The POST of these has ended."""
        lease = deliveries[0].lease
        if self._suspect == lease:
            self._suspect = None
        del self._tasks[lease]

    def isolate_suspect(self, posts: Posts, back: list[Delivery]) -> tuple[Posts, list[Delivery]]:
        """Lets one suspect through at a time: else all of them would become dead letters for the fault of one.

        It is alone in its POST. Returns the POSTs to send, and `back` with the suspects that have to wait.
        """
        sent: Posts = []
        for post in posts:
            if post[0].crash_count < SUSPECT:
                sent.append(post)
            elif self._suspect is None:
                self._suspect = post[0].lease
                sent.append(post)
            else:
                back = [*back, *post]
        return sent, back

    def forget_suspect(self, unsent: list[Delivery]) -> None:
        """Should it be among these, which go back."""
        if any(delivery.lease == self._suspect for delivery in unsent):
            self._suspect = None

    def cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()
