"""Deliveries of which two holders have died one after the other: `lua/poll.lua` makes them dead letters once a third
dies in the midst of a POST. That a POST has begun is noted here, so that none is buried that was only leased beside
one."""

from __future__ import annotations

from relay.queue.codec import Delivery
from relay.queue.layout import PARTITIONS, keys
from sluice.store.client import Store, load_script

_BEGUN = load_script("relay.queue", "events", "partition", "begun", drains=True)
MAX_CRASHES = 3
SUSPECT = MAX_CRASHES - 1
"""The crash count from which on a delivery is suspected of crashing its holders; one more makes it a dead letter."""


class Suspects:
    """Of one endpoint."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self._store = store
        self._keys = [keys(endpoint, partition) for partition in range(PARTITIONS)]

    async def begun(self, suspect: Delivery) -> bool:
        """Its POST begins: should this process end in the midst of it, it becomes a dead letter. False: somebody else
        holds its lease by now.

        Raises StoreAway or StoreRefused; then it may be noted.
        """
        args = (suspect.token, suspect.entry_id, MAX_CRASHES)
        return bool(await self._store.run(_BEGUN, self._keys[suspect.partition], args))
