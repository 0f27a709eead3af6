"""What goes together in one POST, where an endpoint takes several events at once."""

from __future__ import annotations

from collections.abc import Sequence

from relay.policies import Batch
from relay.queue.codec import Delivery

Posts = list[list[Delivery]]


class Batching:
    """What waits is left together for a while before it is leased, so that it goes in one POST.

    Not leased meanwhile, the next events of a session come along with its first.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._since: float | None = None
        self._full = False
        """The last POST was: more may wait, and has waited long enough."""

    @property
    def most(self) -> int:
        """Deliveries in one POST."""
        return self._batch.max

    def is_over(self, now: float) -> bool:
        if self._full:
            return True
        if self._since is None:
            self._since = now
        return now - self._since >= self._batch.wait

    def left(self, now: float) -> float:
        """Seconds; 0 when nothing is gathered."""
        return max(0.0, self._since + self._batch.wait - now) if self._since is not None else 0.0

    def posts(self, leased: list[Delivery], most: int) -> tuple[Posts, list[Delivery]]:
        """At most so many POSTs, and what is put back."""
        self._since = None
        self._full = len(leased) >= self._batch.max
        posts = pack(leased, self._batch.max)
        return posts[:most], [delivery for post in posts[most:] for delivery in post]


def pack(leased: Sequence[Delivery], most: int) -> Posts:
    """Into few POSTs of at most `most`, a stream whole in one; what may have ended a process takes no others along."""
    alone = [[delivery] for delivery in leased if delivery.crash_count]
    streams: dict[bytes, list[Delivery]] = {}
    for delivery in leased:
        if not delivery.crash_count:
            streams.setdefault(delivery.stream, []).append(delivery)
    posts: Posts = []
    for stream in sorted(streams.values(), key=len, reverse=True):
        post = next((post for post in posts if len(post) + len(stream) <= most), None)
        if post is None:
            posts.append(stream)
        else:
            post += stream
    return alone + posts
