"""The workers, as they were a moment ago."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Sequence

from gateway.problems import Refusal
from gateway.workers.target import Target
from sessions.policies import ExistingWorker
from sessions.registry import Registry, WorkerRow
from sluice.store.client import StoreAway, StoreRefused

_BELIEVED_FOR = 1.0
_WITHIN = 0.5
"""Seconds for the store: whoever asks waits for workers, too."""


class Fleet:
    """One question a second to the registry, however many ask."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._rows: Sequence[WorkerRow] = ()
        self._named: Sequence[WorkerRow] = ()
        self._as_of = float("-inf")
        self._next = 0
        self._lock = asyncio.Lock()

    def apply(self, workers: Sequence[ExistingWorker]) -> None:
        """What an edit changes."""
        self._named = [WorkerRow(worker.name, worker.url, 0, 0, True, _BELIEVED_FOR) for worker in workers]

    async def workers(self) -> Sequence[WorkerRow]:
        """While the store is away those that were known last; and those that the policies name, even where nobody has
        seen them yet: a gateway that has just started, or cannot list their sessions, reaches them all the same."""
        async with self._lock:
            if time.monotonic() - self._as_of >= _BELIEVED_FOR:
                with contextlib.suppress(StoreAway, StoreRefused, TimeoutError):
                    async with asyncio.timeout(_WITHIN):
                        self._rows = await self._registry.workers()
                self._as_of = time.monotonic()
            seen = {row.worker for row in self._rows}
            return [*self._rows, *(row for row in self._named if row.worker not in seen)]

    async def any_but(self, tried: Collection[str], session: str = "") -> Target | None:
        """A live worker, in turn; None: there is no other. Raises Refusal 404.

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
        return Target(row.worker, row.url, existing=row.existing)

    async def lapsed(self) -> Collection[str]:
        """Workers of ours whose lease has ended, as far as is known."""
        return [row.worker for row in await self.workers() if not row.existing and row.beat_left <= 0]
