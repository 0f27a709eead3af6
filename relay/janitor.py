"""Drops dead letters that nobody came for within `retention.dead`."""

from __future__ import annotations

from collections.abc import Sequence

from relay.dead import DeadLetters
from runtime.logs import Log
from runtime.store import StoreAway, StoreRefused

LOG = Log("relay")
EVERY = 60.0


async def turn(endpoints: Sequence[DeadLetters], keep_dead: float) -> None:
    """One look at each endpoint. An absent store is no concern of the janitor's: it comes again."""
    for letters in endpoints:
        try:
            dropped = await letters.drop_older(keep_dead)
        except (StoreAway, StoreRefused):
            return
        if dropped:
            LOG.info("dead.dropped", endpoint=letters.endpoint, letters=dropped, older_than_s=keep_dead)
