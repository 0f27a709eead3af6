"""What waits for one endpoint, and its dead letters, given to another: after a rename, or when a receiver is given up.

Both endpoints' keys of a partition are in one slot, so each step is one call: whoever is interrupted begins again, and
what was moved is moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relay.queue import endpoints
from relay.queue.codec import id_of
from relay.queue.heads import heads_of
from relay.queue.history import ids_of_departed
from relay.queue.layout import OWN, PARTITIONS, keys, own_key, own_keys, wake_channel
from relay.queue.waiting import Waiting
from sluice.store.client import Arg, Store, load_script

_MOVE = load_script("relay.queue", "events", "partition", "waiting", "move", drains=True)
_PAGE = 200
_HOLD_MS = 10_000
"""A stream is not leased at its new endpoint between two steps, so that its younger events there overtake none."""


@dataclass(frozen=True, slots=True)
class Moved:
    gone: int
    """From the old endpoint."""
    merged: int
    """Of those: the new endpoint had them already, or was done with them, so they are there once."""
    leased: int
    """They were left where they are, as somebody is delivering them."""


class Mover:
    """Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, old: str, new: str) -> None:
        self.old, self.new = old, new
        self._store = store
        self._done: dict[int, set[bytes]] = {}
        """By partition: ids of events that have left the new endpoint; read when an event for several is met."""

    async def move(self, limit: int) -> Moved:
        """At most about so many, the oldest of each session first, those that wait before the dead ones."""
        await endpoints.note(self._store, [self.new])
        gone = merged = leased = 0
        async for places in Waiting(self._store, self.old).places(None, None, _PAGE):
            if gone >= limit:
                break
            some = await self._step(places[0].partition, "waiting", [place.entry_id for place in places])
            gone, merged, leased = gone + some.gone, merged + some.merged, leased + some.leased
        for partition in range(PARTITIONS):
            oldest = ("ZRANGE", own_key(self.old, partition, "dead"), 0, _PAGE - 1)
            while gone < limit and (entry_ids := (await self._store.commands(oldest))[0]):
                some = await self._step(partition, "dead", entry_ids)
                gone, merged = gone + some.gone, merged + some.merged
        if gone:
            await self._store.commands(("PUBLISH", wake_channel(self.new), ",".join(map(str, range(PARTITIONS)))))
        return Moved(gone, merged, leased)

    async def _step(self, partition: int, place: Literal["waiting", "dead"], entry_ids: Sequence[bytes]) -> Moved:
        ids = [id_of(entry_id) for entry_id in entry_ids]
        heads = await heads_of(self._store, partition, ids)
        if partition not in self._done and any(head is not None and head[0].endpoints > 1 for head in heads):
            self._done[partition] = await ids_of_departed(self._store, self.new, partition)
        done = self._done.get(partition, set())
        args: list[Arg] = [len(OWN), place, _HOLD_MS]
        for entry_id, event_id in zip(entry_ids, ids, strict=True):
            args += (entry_id, int(event_id in done))
        both = [*keys(self.old, partition), *own_keys(self.new, partition)]
        return Moved(*await self._store.run(_MOVE, both, args))
