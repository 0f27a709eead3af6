"""Drops dead letters that nobody came for within `retention.dead`."""

from __future__ import annotations

from collections.abc import Sequence

from relay.queue import Queue
from runtime.logs import Log
from runtime.store import StoreAway, StoreRefused

LOG = Log("relay")
EVERY = 60.0


async def turn(queues: Sequence[Queue], keep_dead: float) -> None:
    """One look at each queue. An absent store is no concern of the janitor's: it comes again."""
    for queue in queues:
        try:
            dropped = await queue.drop_older(keep_dead)
        except (StoreAway, StoreRefused):
            return
        if dropped:
            LOG.info("dead.dropped", endpoint=queue.endpoint, letters=dropped, older_than_s=keep_dead)
