"""Drops dead letters that nobody came for within `retention.dead`, and what is known of what is long over."""

from __future__ import annotations

from collections.abc import Iterable

from relay.queue import delays, history
from relay.queue.dead_letters import DeadLetters
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("relay")
EVERY = 60.0


async def run_once(store: Store, endpoints: Iterable[str], keep_dead: float, keep_delivered: float) -> None:
    """Cleans up after each endpoint. While the store is away nothing is done; the next run will."""
    for endpoint in endpoints:
        try:
            dropped = await DeadLetters(store, endpoint).drop_older(keep_dead)
            await history.forget_older(store, endpoint, keep_delivered)
            await delays.forget_past(store, endpoint)
        except (StoreAway, StoreRefused):
            return
        if dropped:
            LOG.info("dead.dropped", endpoint=endpoint, letters=dropped, older_than_s=keep_dead)
