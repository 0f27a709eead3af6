"""What a page sees live: the status every two seconds, as Server-Sent Events, for as long as somebody looks.

All who look share one look, and each has at most one of them in its buffer: who reads slowly misses some. A stream ends
when the policies change, so also with another token, when the gateway stops, and after some minutes; the page opens the
next one by itself.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.resources import Resources
from sluice.http.problem import Refusal

MOST = 32
"""Streams of one gateway process."""
EVERY = 2.0  # seconds
LONGEST = 300.0  # seconds
_AGAIN = b"retry: 1000\n\n"


class Live:
    def __init__(self) -> None:
        self.open = 0

    def enter(self) -> None:
        """Raises Refusal 503. Who enters must leave."""
        if self.open >= MOST:
            raise Refusal(503, f"{MOST} pages look at this gateway already; close some", retry_after=b"5")
        self.open += 1

    def leave(self) -> None:
        self.open -= 1

    async def frames(self, resources: Resources, look: Callable[[], Awaitable[bytes]]) -> AsyncIterator[bytes]:
        """`look`: the status as JSON, shared with all others who ask at about the same time."""
        ends = time.monotonic() + LONGEST
        yield _AGAIN
        while resources.live.current is resources.policies and time.monotonic() < ends:
            yield b"event: status\ndata: %b\n\n" % await look()
            if not await resources.stop.sleep(EVERY):
                return
