"""Writes that count only once replicas of the store have them, too: `promise: replica`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.queue.errors import NotReplicated
from sluice.store.client import Call, Store, by_text
from sluice.store.protocol.packing import Command


class Replicated:
    """`store`: a connection that nobody else uses for anything else, as whatever is behind a WAIT waits, too. On a
    cluster it waits for the server of each slot that was written to.

    `replicas`: so many must have a write within `within` seconds; 0: it counts when the store has it.
    """

    def __init__(self, store: Store, *, replicas: int = 0, within: float = 0.5) -> None:
        self.replicas = replicas
        self._store = store
        self._wait = ("WAIT", replicas, int(within * 1000))

    async def run_all(self, calls: Sequence[Call], also: Sequence[Command] = ()) -> list[Any]:
        """As `Store.run_all`. Raises StoreAway, or NotReplicated, after which it may be lost again; or StoreRefused."""
        if not self.replicas or not calls:
            return await self._store.run_all(calls, also)
        # EVAL and not EVALSHA: the store would send a script that the server has forgotten again, behind the WAIT.
        whole = [by_text(call.script, call.keys, call.args) for call in calls]
        results = await self._store.run_all((), [*whole, *also, self._wait])
        if results[-1] < self.replicas:
            raise NotReplicated(f"{results[-1]} of {self.replicas} replicas had it in time")
        return results
