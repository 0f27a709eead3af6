"""What waits for one endpoint: listed for people, skipped and dropped by them, and cleared of what has expired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relay.queue.codec import LANE_LETTERS, Stored, id_of, is_leased, stream_of
from relay.queue.heads import heads_of
from relay.queue.history_codec import Attempt, attempt_log_field, read_attempts
from relay.queue.layout import MAX_HISTORY, PARTITIONS, any_key, keys, own_key, partition_of, wake_channel
from sluice.store import clock
from sluice.store.client import Arg, Store, load_script

_REMOVE = load_script("relay.queue", "events", "partition", "waiting", "remove", drains=True)
_EXPIRE_PAGE = 500
Removal = Literal["skip", "drop", "expire", "restored"]
_REASONS: dict[Removal, str] = {
    "skip": "skipped by a person",
    "drop": "dropped by a person while it waited",
    "expire": "",
    "restored": "it waited when the backup was made that was restored, and may have gone out since",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an entry stands in an endpoint's queue: they are listed in the order of these."""

    partition: int
    entry_id: bytes


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    event: Stored
    """Without its body."""
    bytes: int
    """Of its body."""
    place: Place
    leased: bool
    failed: int
    """Attempts so far that count."""
    due: float
    """Unix seconds when its session is to go on; while it is leased the end of the lease."""
    due_in: float
    """Seconds until then; 0: it is due."""
    last_attempt: Attempt | None


@dataclass(frozen=True, slots=True)
class Removed:
    taken: int
    leased: int
    """They were left alone, as somebody is delivering them."""


class Waiting:
    """Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self.endpoint = endpoint
        self._store = store

    async def places(self, after: Place | None, session: str | None, page: int) -> AsyncIterator[list[Place]]:
        """All that are listed after a place, of one session or of all, `page` at most at a time.

        What leaves or comes meanwhile hides none that stays.
        """
        first = partition_of(session) if session is not None else after.partition if after else 0
        for partition in range(first, first + 1 if session is not None else PARTITIONS):
            begin = after.entry_id if after and after.partition == partition else b""
            for low, high in _ranges(session):
                if begin and begin >= low[1:]:
                    low = b"(" + begin
                while True:
                    command = ("ZRANGE", self._key(partition, "queue"), low, high, "BYLEX", "LIMIT", 0, page)
                    (entry_ids,) = await self._store.commands(command)
                    if not entry_ids:
                        break
                    yield [Place(partition, entry_id) for entry_id in entry_ids]
                    low = b"(" + entry_ids[-1]

    async def read(self, places: Sequence[Place]) -> list[WaitingEvent]:
        """Those of one partition; what has left meanwhile is left out."""
        partition, entry_ids = places[0].partition, [place.entry_id for place in places]
        streams = [stream_of(entry_id) for entry_id in entry_ids]
        heads = await heads_of(self._store, partition, [id_of(entry_id) for entry_id in entry_ids])
        logs = [attempt_log_field(entry_id) for entry_id in entry_ids]
        dues: list[tuple[Arg, ...]] = [("ZMSCORE", self._key(partition, lane), *streams) for lane in LANE_LETTERS]
        now, leases, failed, tried, waits, *moments = await self._store.run_all(
            [clock.look(any_key(partition))],
            [
                ("HMGET", self._key(partition, "leases"), *streams),
                ("HMGET", self._key(partition, "attempts"), *entry_ids),
                ("HMGET", self._key(partition, "attempts"), *logs),
                ("ZMSCORE", self._key(partition, "queue"), *entry_ids),
                *dues,
            ],
        )
        found = []
        for i, head in enumerate(heads):
            if head is None or waits[i] is None:
                continue
            listed: Any = next((of_lane[i] for of_lane in moments if of_lane[i] is not None), 0)
            due = max(float(listed) / 1000, head[0].not_before)
            attempts = read_attempts(tried[i])
            found.append(
                WaitingEvent(
                    *head,
                    places[i],
                    is_leased(entry_ids[i], leases[i]),
                    int(failed[i] or 0),
                    due,
                    max(0.0, due - clock.seconds(now)),
                    attempts[-1] if attempts else None,
                )
            )
        return found

    async def remove(self, places: Sequence[Place], how: Removal) -> Removed:
        """Skipped, restored: each becomes a dead letter, and its session goes on. Dropped: gone, with its history."""
        taken = leased = 0
        by_partition: dict[int, list[bytes]] = {}
        for place in places:
            by_partition.setdefault(place.partition, []).append(place.entry_id)
        for partition, entry_ids in by_partition.items():
            args: list[Arg] = [MAX_HISTORY, how, _REASONS[how], *entry_ids]
            some = await self._store.run(_REMOVE, keys(self.endpoint, partition), args)
            taken, leased = taken + some[0], leased + some[1]
        if taken:
            await self._store.commands(("PUBLISH", wake_channel(self.endpoint), ",".join(map(str, by_partition))))
        return Removed(taken, leased)

    async def expire(self) -> int:
        """Takes out what is not worth sending any more, as a relay does before it sends. Returns how many."""
        expired = 0
        async for places in self.places(None, None, _EXPIRE_PAGE):
            expired += (await self.remove(places, "expire")).taken
        return expired

    def _key(self, partition: int, name: str) -> str:
        return own_key(self.endpoint, partition, name)


def _ranges(session: str | None) -> list[tuple[bytes, bytes]]:
    """Between which the entry ids are, for ZRANGE BYLEX: all, or those of a session in each lane, in their order."""
    if session is None:
        return [(b"-", b"+")]
    streams = sorted(letter.encode() + session.encode() for letter in LANE_LETTERS.values())
    return [(b"[" + stream + b"\0", b"(" + stream + b"\1") for stream in streams]
