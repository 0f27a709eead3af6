"""Which deliveries go together in one POST, where an endpoint takes several events at once. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from relay.policies import Batch
from relay.queue.codec import Delivery
from relay.queue.layout import PARTITIONS

Posts = list[list[Delivery]]


class Batching:
    """Without a `batch` each delivery is a POST of its own.

    Else there is a wait before anything is leased: then the next events of a session come along with its first.
    """

    def __init__(self, batch: Batch | None) -> None:
        self._batch = batch
        self._since: float | None = None
        self._was_full = False
        """The last POST was full: then more may wait, and has waited long enough."""

    def deliveries(self, posts: int) -> int:
        """How many go in so many POSTs, at most."""
        return posts * self._batch.max if self._batch is not None else posts

    def wanted(self, capacity: int, now: float, *, is_due: bool, settles: bool) -> int:
        """For how many POSTs to lease. `settles`: the poll settles something, and more may be due after it.

        A partition gives the events of one POST. `now` in monotonic seconds.
        """
        if self._batch is None:
            return capacity if is_due or settles else 0
        return min(capacity, PARTITIONS) if is_due and self._is_over(now, self._batch.wait) else 0

    def remaining(self, now: float) -> float:
        """Seconds until the wait is over; 0 when none has begun."""
        return max(0.0, self._since + self._batch.wait - now) if self._batch and self._since is not None else 0.0

    def posts(self, leased: list[Delivery], max_posts: int) -> tuple[Posts, list[Delivery]]:
        """At most `max_posts`, and what has to go back."""
        if self._batch is None:
            return [[delivery] for delivery in leased], []
        self._since = None
        self._was_full = len(leased) >= self._batch.max
        posts = pack(leased, self._batch.max)
        return posts[:max_posts], [delivery for post in posts[max_posts:] for delivery in post]

    def _is_over(self, now: float, wait: float) -> bool:
        """Whether the wait is; begins it where none has begun."""
        if self._was_full:
            return True
        if self._since is None:
            self._since = now
        return now - self._since >= wait


def pack(leased: Sequence[Delivery], max_events: int) -> Posts:
    """Into few POSTs of at most `max_events`, each stream in one. What may have crashed a process goes alone."""
    alone = [[delivery] for delivery in leased if delivery.crash_count]
    streams: dict[bytes, list[Delivery]] = {}
    for delivery in leased:
        if not delivery.crash_count:
            streams.setdefault(delivery.stream, []).append(delivery)
    posts: Posts = []
    for stream in sorted(streams.values(), key=len, reverse=True):
        post = next((post for post in posts if len(post) + len(stream) <= max_events), None)
        if post is None:
            posts.append(stream)
        else:
            post += stream
    return alone + posts
