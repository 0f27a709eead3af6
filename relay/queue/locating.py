"""Where events are, by their ids: in the queue of which endpoint, or among its dead letters. No queue is searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.queue.codec import Stored, entry_id_of, id_of, unpack
from relay.queue.heads import Head, heads_of
from relay.queue.layout import PARTITIONS, own_key, shared_key
from sluice.store.client import Arg, Store


@dataclass(frozen=True, slots=True)
class Located:
    endpoint: str
    partition: int
    entry_id: bytes
    event: Stored
    """Without its body."""
    bytes: int
    """Of its body."""
    died_at: float | None
    """Unix seconds; None: it waits."""


async def locate(store: Store, endpoints: Sequence[str], ids: Sequence[str]) -> list[Located]:
    """Each at each endpoint that it still waits or is dead for. Raises StoreAway or StoreRefused."""
    found: list[Located] = []
    for partition in range(PARTITIONS):
        heads = await heads_of(store, partition, [identity.encode() for identity in dict.fromkeys(ids)])
        here = [head for head in heads if head is not None]
        for endpoint in endpoints if here else ():
            found += await _at(store, endpoint, partition, here)
    return found


async def whole_event(store: Store, partition: int, event_id: str) -> Stored | None:
    """With its body. Raises StoreAway or StoreRefused."""
    (record,) = await store.commands(("HGET", shared_key(partition, "events"), event_id))
    return None if record is None else unpack(record)


def forms(event: Stored, latest: bytes | None) -> list[bytes]:
    """The entry ids that an event may have at an endpoint. `latest`: what replaced others, by its coalesce key."""
    by_session = entry_id_of(event.lane, event.session or event.id, event.sequence, event.id)
    alone = entry_id_of(event.lane, event.id, event.sequence, event.id)  # where the endpoint keeps no order
    took_over = latest is not None and id_of(latest) == event.id.encode()
    return [*([latest] if took_over and latest is not None else []), by_session, alone]


async def _at(store: Store, endpoint: str, partition: int, heads: Sequence[Head]) -> list[Located]:
    keys = [event.coalesce_key or b"-" for event, _ in heads]
    queue, dead = own_key(endpoint, partition, "queue"), own_key(endpoint, partition, "dead")
    (latest,) = await store.commands(("HMGET", own_key(endpoint, partition, "latest"), *keys))
    each = [forms(event, last) for (event, _), last in zip(heads, latest, strict=True)]
    every: list[Arg] = [form for of_one in each for form in of_one]
    waits, died = await store.commands(("ZMSCORE", queue, *every), ("ZMSCORE", dead, *every))
    scores = dict(zip(every, zip(waits, died, strict=True), strict=True))
    found = []
    for (event, size), of_one in zip(heads, each, strict=True):
        for form in of_one:
            is_waiting, moment = scores[form]
            if is_waiting is not None or moment is not None:
                died_at = float(moment) / 1000 if moment is not None else None
                found.append(Located(endpoint, partition, form, event, size, died_at))
                break
    return found
