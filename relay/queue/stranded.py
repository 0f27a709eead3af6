"""What lies in the store for endpoints that the policies do not name: it is told, it expires, and it can be moved."""

from __future__ import annotations

from collections.abc import Collection

from relay.queue import endpoints
from relay.queue.queue import Counts, Queue
from sluice.store.client import Store


async def stranded(store: Store, policies: Collection[str]) -> dict[str, Counts]:
    """By endpoint, those with events that wait, are leased or dead. Raises StoreAway or StoreRefused."""
    found = {name: await counts_of(store, name) for name in sorted(await endpoints.names(store) - set(policies))}
    return {name: counts for name, counts in found.items() if counts.waiting or counts.leased or counts.dead}


async def counts_of(store: Store, endpoint: str) -> Counts:
    """Of an endpoint, whether the policies name it or not. Raises StoreAway or StoreRefused."""
    return await Queue(store, endpoint, lease=0.0, max_bytes=0, max_events=0).counts()
