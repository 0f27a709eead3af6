"""The fences under which workers have sent events, so that a former owner of a session is refused (`lua/accept.lua`).

A fence is a moment, in microseconds since 1970 (`sessions/registry.py`), that grows with each grant of a session's
lease. The highest of each session lies in the session's partition, and holds for all endpoints together.
"""

from __future__ import annotations

from relay.queue.layout import PARTITIONS, any_key, fences_key
from sluice.store import clock
from sluice.store.client import Store

KNOWN_FOR = 2 * 86400.0
"""Seconds after its grant in which a lease that is followed by another is remembered."""


async def forget_old(store: Store) -> None:
    """Raises StoreAway or StoreRefused."""
    times = await clock.times(store, [any_key(partition) for partition in range(PARTITIONS)])
    await store.commands(
        *(
            ("ZREMRANGEBYSCORE", fences_key(partition), "-inf", round((now - KNOWN_FOR) * 1e6))
            for partition, now in enumerate(times)
        )
    )
