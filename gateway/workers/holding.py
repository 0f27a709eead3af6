"""Requests that wait because no worker has their session right now: bounded in time, number and bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.problems import ClientGone
from gateway.workers import metrics
from sluice.http.bodies import BodyBudget
from sluice.http.server import Exchange

MAX_HELD = 1000
"""Requests of one process."""
_SHARE = 4
"""Of the budget for bodies at most one part in so many is held here."""
_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between two looks, where no change message comes: a worker that is started again sends none."""


class Waiting:
    """One request, up to a moment (`time.monotonic`)."""

    def __init__(self, holding: Holding, session: str, until: float, exchange: Exchange | None) -> None:
        self._holding = holding
        self._session = session
        self._until = until
        self._exchange = exchange
        self._looks = 0

    async def again(self) -> bool:
        """Whether it may look once more, after a while. Raises ClientGone."""
        left = self._until - time.monotonic()
        if left <= 0:
            return False
        pause = _PAUSES[min(self._looks, len(_PAUSES) - 1)]
        self._looks += 1
        await self._holding.change_of(self._session, min(pause, left))
        if self._exchange is not None and self._exchange.disconnected:
            raise ClientGone
        return True


class Holding:
    """Of one process."""

    def __init__(self, bodies: BodyBudget) -> None:
        self._bodies = bodies
        self._held = 0
        self._bytes = 0
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    @contextmanager
    def waiting(self, session: str, size: int, seconds: float, exchange: Exchange | None) -> Iterator[Waiting]:
        """`size`: bytes of its body. When too much is held already it does not wait at all. `exchange` None: that of a
        WebSocket, whose end is noticed by others."""
        full = self._held >= MAX_HELD or self._bytes + size > self._bodies.limit // _SHARE
        until = 0.0 if full else time.monotonic() + seconds
        self._hold(1, size)
        try:
            yield Waiting(self, session, until, exchange)
        finally:
            self._hold(-1, -size)

    def _hold(self, requests: int, size: int) -> None:
        self._held += requests
        self._bytes += size
        metrics.held(self._held)

    async def change_of(self, session: str, seconds: float) -> None:
        """Returns when somebody else has the session, or after so many seconds."""
        changed = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(session, set())
        waiting.add(changed)
        try:
            await asyncio.wait([changed], timeout=seconds)
        finally:
            waiting.discard(changed)
            if not waiting and self._waiting.get(session) is waiting:
                del self._waiting[session]

    def wake(self, session: str) -> None:
        for changed in self._waiting.pop(session, ()):
            if not changed.done():
                changed.set_result(None)

    def wake_all(self) -> None:
        for session in [*self._waiting]:
            self.wake(session)
