"""The workers, as they were a moment ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

from gateway.problems import Refusal
from gateway.workers.connections import Target
from sessions.registry import Registry, WorkerRow
from sluice.store.client import StoreAway, StoreRefused

_BELIEVED_FOR = 1.0


class Fleet:
    """One question a second to the registry, however many ask."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._rows: Sequence[WorkerRow] = ()
        self._as_of = float("-inf")
        self._next = 0
        self._lock = asyncio.Lock()

    async def workers(self) -> Sequence[WorkerRow]:
        """While the store is away those that were known last. Raises StoreAway or StoreRefused when none were."""
        async with self._lock:
            if time.monotonic() - self._as_of < _BELIEVED_FOR:
                return self._rows
            try:
                self._rows = await self._registry.workers()
                self._as_of = time.monotonic()
            except (StoreAway, StoreRefused):
                if not self._rows:
                    raise
            return self._rows

    async def any_but(self, tried: Collection[str], session: str = "") -> Target | None:
        """A live worker, in turn; None: there is no other. Raises like `workers`, and Refusal 404.

        `session`: one that nobody knows. Existing workers answer for it as they would directly; ours are asked only for
        what the registry has given them, and have nothing to say of it.
        """
        live = [row for row in await self.workers() if row.beat_left > 0 and row.worker not in tried]
        existing = [row for row in live if row.existing]
        if session and live and not existing:
            raise Refusal(404, f"there is no session {session}")
        live = existing or live
        if not live:
            return None
        self._next += 1
        row = live[self._next % len(live)]
        return Target(row.worker, row.url)
