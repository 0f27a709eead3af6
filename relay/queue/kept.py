"""Events that an endpoint got, kept as they were for `retention.bodies`, so that a person can have them sent once more.

`lua/poll.lua` keeps them where they are settled. One that is sent once more is a new event to the queue, at the end of
its stream: with an id of its own, under which it is followed, while its receiver is told the id of the first one. It is
not kept again, the first one is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from relay.queue.codec import Event, Stored, Superseding, unpack
from relay.queue.heads import heads_of
from relay.queue.layout import PARTITIONS, any_key, keys, own_key, partition_of
from sluice.store import clock
from sluice.store.client import Arg, Call, Store, load_script
from sluice.store.protocol.packing import Command

ONCE_MORE = "~"
"""Between the id of an event and what tells the times apart at which it is sent once more; `lua/poll.lua` knows it."""
KNOWN_FOR = 3600.0
"""Seconds in which nothing is sent once more a second time under the same id: a call that was cut short can be made
again."""
_UNKEEP = load_script("relay.queue", "events", "partition", "lately", "unkeep", drains=True)
_PAGE = 200


@dataclass(frozen=True, slots=True, order=True)
class KeptPlace:
    """In the order of these events of a session were delivered."""

    partition: int
    delivered: int
    """Unix ms."""
    member: bytes
    """Sequence number in 14 digits, NUL, event id."""

    @property
    def id(self) -> bytes:
        return self.member[15:]


@dataclass(frozen=True, slots=True)
class KeptEvent:
    place: KeptPlace
    event: Stored
    """Without its body."""
    bytes: int
    """Of its body."""


def once_more(event: Stored, run: int) -> Event:
    """The event as it is sent once more. `run`: the same for the calls of which only one is to send it."""
    return Event(
        id=f"{event.id}{ONCE_MORE}{run:x}",
        type=event.type,
        session=event.session,
        target=event.target,
        headers=event.headers,
        body=event.body,
        lane=event.lane,
        dedupe_window=KNOWN_FOR,
        senders_id=event.senders_id or event.id,
        superseding=_as_before(event),
    )


def _as_before(event: Stored) -> Superseding | None:
    """It is no newer than the first one."""
    known = event.superseding
    return None if known is None else Superseding(known.key, known.order or round(event.accepted_at * 1000))


class Kept:
    """Of one endpoint. Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self.endpoint = endpoint
        self._store = store

    async def count(self) -> int:
        ranges = [("ZCARD", self._key(partition, "kept")) for partition in range(PARTITIONS)]
        return sum(await self._store.commands(*ranges))

    async def whole(self, event_id: str) -> Stored | None:
        """An event with its body; None: it is not kept."""
        commands = [("HGET", self._key(partition, "bodies"), event_id) for partition in range(PARTITIONS)]
        records = [record for record in await self._store.commands(*commands) if record is not None]
        return unpack(records[0]) if records else None

    async def by_ids(self, ids: Sequence[str]) -> list[KeptEvent]:
        """Those of these that are kept."""
        found = []
        for partition in range(PARTITIONS):
            heads = await self._heads(partition, [one.encode() for one in ids])
            members = [b"%014d\0%s" % (head[0].sequence, head[0].id.encode()) for head in heads if head is not None]
            if members:
                (scores,) = await self._store.commands(("ZMSCORE", self._key(partition, "kept"), *members))
                places = [
                    KeptPlace(partition, int(float(score)), member)
                    for member, score in zip(members, scores, strict=True)
                    if score is not None
                ]
                found += await self.read(places) if places else []
        return found

    async def places(
        self, after: KeptPlace | None, since: float | None, until: float, session: str | None, size: int
    ) -> AsyncIterator[list[KeptPlace]]:
        """Pages of up to `size`. `since`, `until`: unix seconds, of the delivery."""
        first = after.partition if after else 0
        for partition in range(first, PARTITIONS) if session is None else [partition_of(session)]:
            async for page in self._of_partition(partition, after, since, until, size):
                yield page

    async def read(self, places: Sequence[KeptPlace]) -> list[KeptEvent]:
        """Of one partition; what is gone meanwhile is left out."""
        heads = await self._heads(places[0].partition, [place.id for place in places])
        return [KeptEvent(place, *head) for place, head in zip(places, heads, strict=True) if head is not None]

    async def drop_older(self, seconds: float) -> int:
        """Deletes what was delivered longer ago than this. Returns how many there were."""
        times = await clock.times(self._store, [any_key(partition) for partition in range(PARTITIONS)])
        dropped = 0
        for partition, now in enumerate(times):
            before = int((now - seconds) * 1000)
            oldest = ("ZRANGE", self._key(partition, "kept"), "-inf", before, "BYSCORE", "LIMIT", 0, _PAGE)
            while members := (await self._store.commands(oldest))[0]:
                dropped += await self._store.run(_UNKEEP, keys(self.endpoint, partition), ["age", *members])
        return dropped

    async def trim(self, max_bytes: int) -> int:
        """Deletes the oldest of all partitions, as long as they have more bytes. Returns how many it deleted."""
        dropped = 0
        while (excess := await self._bytes() - max_bytes) > 0:
            chosen: dict[int, list[Arg]] = {}
            for place, size in await self._oldest():
                if excess <= 0:
                    break
                excess -= size
                chosen.setdefault(place.partition, []).append(place.member)
            if not chosen:
                break
            calls = [Call(_UNKEEP, keys(self.endpoint, one), ["cap", *members]) for one, members in chosen.items()]
            dropped += sum(await self._store.run_all(calls))
        return dropped

    async def _bytes(self) -> int:
        commands = [("HGET", self._key(partition, "counts"), "kept_bytes") for partition in range(PARTITIONS)]
        return sum(int(size or 0) for size in await self._store.commands(*commands))

    async def _oldest(self) -> list[tuple[KeptPlace, int]]:
        """With the bytes of their records."""
        ranges: list[Command] = [
            ("ZRANGE", self._key(partition, "kept"), 0, _PAGE - 1, "WITHSCORES") for partition in range(PARTITIONS)
        ]
        answers = await self._store.commands(*ranges)
        every = [place for partition, flat in enumerate(answers) for place in _places(partition, flat)]
        oldest = sorted(every, key=lambda place: place.delivered)[:_PAGE]
        sizes = await self._store.commands(
            *(("HSTRLEN", self._key(place.partition, "bodies"), place.id) for place in oldest)
        )
        return list(zip(oldest, sizes, strict=True))

    async def _of_partition(
        self, partition: int, after: KeptPlace | None, since: float | None, until: float, size: int
    ) -> AsyncIterator[list[KeptPlace]]:
        start, end, want = "-inf" if since is None else str(round(since * 1000)), f"({round(until * 1000)}", size
        if after is not None and after.partition == partition:
            start = str(after.delivered)
        while True:
            command = ("ZRANGE", self._key(partition, "kept"), start, end, "BYSCORE", "LIMIT", 0, want, "WITHSCORES")
            (flat,) = await self._store.commands(command)
            places = _places(partition, flat)
            page = [place for place in places if after is None or place > after][:size]
            if page:
                yield page
                after, start, want = page[-1], str(page[-1].delivered), size
            elif len(places) == want:
                want *= 2  # so many were delivered in one moment
            else:
                return

    async def _heads(self, partition: int, ids: Sequence[bytes]) -> list[tuple[Stored, int] | None]:
        return await heads_of(self._store, partition, ids, kept_for=self.endpoint)

    def _key(self, partition: int, name: str) -> str:
        return own_key(self.endpoint, partition, name)


def _places(partition: int, flat: Sequence[bytes]) -> list[KeptPlace]:
    return [
        KeptPlace(partition, int(float(score)), member) for member, score in zip(flat[::2], flat[1::2], strict=True)
    ]
