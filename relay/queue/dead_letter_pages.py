"""Dead letters read a page at a time, the oldest first over endpoints and partitions, without their bodies or with."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from relay.queue.codec import Stored, id_of, sequence_of, unpack
from relay.queue.heads import Head, heads_of
from relay.queue.history_codec import text
from relay.queue.layout import PARTITIONS, own_key, shared_key
from relay.queue.locating import locate
from sluice.store.client import Store

_PAGE = 200
_PAGE_WITH_BODIES = 20


@dataclass(frozen=True, slots=True)
class DeadLetter:
    event: Stored
    """Without its body where that was not asked for."""
    size: int
    """Bytes of its body."""
    died_at: float
    """Unix seconds."""
    reason: str
    partition: int
    entry_id: bytes

    @property
    def sequence(self) -> int:
        """By which the events of a session are sent in order."""
        return sequence_of(self.entry_id)


@dataclass(frozen=True, slots=True, order=True)
class DeadPlace:
    """Where a letter stands among all: by when it died (ms), and among those of one moment by the rest."""

    died: int
    endpoint: str
    partition: int
    entry_id: bytes


Found = tuple[DeadPlace, DeadLetter]


async def oldest_first(
    store: Store, endpoints: Sequence[str], after: DeadPlace | None = None, *, with_bodies: bool = False
) -> AsyncIterator[Found]:
    """All that stand after a place. Letters that leave meanwhile hide none that stay.

    Raises StoreAway or StoreRefused.
    """
    each = [
        _of_partition(store, endpoint, partition, after, with_bodies)
        for endpoint in endpoints
        for partition in range(PARTITIONS)
    ]
    firsts = await asyncio.gather(*(anext(one, None) for one in each))
    heads = [(first, number) for number, first in enumerate(firsts) if first is not None]
    heap = [(first[0], number, first[1]) for first, number in heads]
    heapq.heapify(heap)
    while heap:
        place, number, letter = heap[0]
        yield place, letter
        following = await anext(each[number], None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following[0], number, following[1]))


async def by_ids(store: Store, endpoints: Sequence[str], ids: Sequence[str]) -> list[Found]:
    """Those of these events, without their bodies. Raises StoreAway or StoreRefused."""
    places = [one for one in await locate(store, endpoints, ids) if one.died_at is not None]
    reasons = await store.commands(
        *(("HGET", own_key(one.endpoint, one.partition, "reasons"), one.entry_id) for one in places)
    )
    return [
        (
            DeadPlace(round((one.died_at or 0.0) * 1000), one.endpoint, one.partition, one.entry_id),
            DeadLetter(one.event, one.bytes, one.died_at or 0.0, text(reason), one.partition, one.entry_id),
        )
        for one, reason in zip(places, reasons, strict=True)
    ]


async def _of_partition(
    store: Store, endpoint: str, partition: int, after: DeadPlace | None, with_bodies: bool
) -> AsyncIterator[Found]:
    size = _PAGE_WITH_BODIES if with_bodies else _PAGE
    key, score, want = own_key(endpoint, partition, "dead"), "-inf" if after is None else str(after.died), size
    while True:
        command = ("ZRANGE", key, score, "+inf", "BYSCORE", "LIMIT", 0, want, "WITHSCORES")
        (flat,) = await store.commands(command)
        places = [
            DeadPlace(int(float(died)), endpoint, partition, entry_id)
            for entry_id, died in zip(flat[::2], flat[1::2], strict=True)
        ]
        page = [place for place in places if after is None or place > after]
        if page:
            for found in await _read(store, page[:size], with_bodies):
                yield found
            after, want = page[:size][-1], size
            score = str(after.died)
        elif len(places) == want:
            want *= 2  # so many died in one moment
        else:
            return


async def _read(store: Store, places: Sequence[DeadPlace], with_bodies: bool) -> list[Found]:
    """What has left meanwhile is left out."""
    endpoint, partition = places[0].endpoint, places[0].partition
    entry_ids = [place.entry_id for place in places]
    ids = [id_of(entry_id) for entry_id in entry_ids]
    heads = await (_with_bodies(store, partition, ids) if with_bodies else heads_of(store, partition, ids))
    (reasons,) = await store.commands(("HMGET", own_key(endpoint, partition, "reasons"), *entry_ids))
    return [
        (place, DeadLetter(*head, place.died / 1000, text(reason), partition, place.entry_id))
        for place, head, reason in zip(places, heads, reasons, strict=True)
        if head is not None
    ]


async def _with_bodies(store: Store, partition: int, ids: Sequence[bytes]) -> list[Head | None]:
    (records,) = await store.commands(("HMGET", shared_key(partition, "events"), *ids))
    events = [None if record is None else unpack(record) for record in records]
    return [None if event is None else (event, len(event.body)) for event in events]
