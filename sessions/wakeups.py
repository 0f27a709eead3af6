"""Workers wait here until they were given a session or have lost one, so that they need not beat more often."""

from __future__ import annotations

import asyncio
import time

from sessions.changes import Change, Changes, Everything
from sluice.process.cache import Latest

_MAX_BYTES = 4 * 2**20


class Wakeups:
    """Of one gateway process: what `changes` tells it. One wait for each worker: a newer one ends the one before."""

    def __init__(self, changes: Changes) -> None:
        self._events: dict[str, asyncio.Event] = {}
        self._changed_at: Latest[str, float] = Latest(_MAX_BYTES)
        self._everything_at = 0.0
        changes.subscribe(self.tell)

    @property
    def waiting(self) -> int:
        """How many workers do."""
        return len(self._events)

    async def wait(self, worker: str, since: float, seconds: float) -> bool:
        """Whether something has changed for the worker in the last `since` seconds, or does in the next `seconds`."""
        last = max(self._changed_at.get(worker) or 0.0, self._everything_at)
        if time.monotonic() - last <= since:
            return True
        changed = asyncio.Event()
        self._end(worker)
        self._events[worker] = changed
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return False
        finally:
            if self._events.get(worker) is changed:
                del self._events[worker]
        return True

    def close(self) -> None:
        """Ends all waits, so that a gateway that stops is not kept by them."""
        for worker in list(self._events):
            self._end(worker)

    def tell(self, what: Change | Everything) -> None:
        """Something has changed."""
        if isinstance(what, Everything):
            self._everything_at = time.monotonic()
            self.close()
            return
        for worker in {what.worker, what.before} - {""}:
            self._changed_at.keep(worker, time.monotonic(), worker.__sizeof__())
            self._end(worker)

    def _end(self, worker: str) -> None:
        waiting = self._events.pop(worker, None)
        if waiting is not None:
            waiting.set()
