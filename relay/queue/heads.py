"""Events without their bodies, for lists: a body may be a whole video."""

from __future__ import annotations

from collections.abc import Sequence

from relay.queue.codec import Stored, unpack
from relay.queue.layout import own_key, shared_key
from sluice.store.client import Store, load_script

_HEADS = load_script("relay.queue", "heads", drains=True)
_MAX_READ = 4 * 1024 * 1024
"""Bytes of records that the store reads in one call: a millisecond or two."""

Head = tuple[Stored, int]
"""An event with an empty body, and how many bytes its body has."""


async def heads_of(
    store: Store, partition: int, event_ids: Sequence[bytes], *, kept_for: str | None = None
) -> list[Head | None]:
    """In their order; None: the store has no such event. Raises StoreAway or StoreRefused.

    `kept_for`: of events whose bodies are kept for this endpoint after their delivery.
    """
    found: list[Head | None] = []
    records = shared_key(partition, "events") if kept_for is None else own_key(kept_for, partition, "bodies")
    while len(found) < len(event_ids):
        answer = await store.run(_HEADS, [records], [_MAX_READ, *event_ids[len(found) :]])
        found += [(unpack(head), size) if head else None for head, size in zip(answer[::2], answer[1::2], strict=True)]
    return found
