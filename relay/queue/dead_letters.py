"""The dead letters of one endpoint: deliveries that ran out of attempts or were rejected, and wait for a person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from relay.queue.codec import id_of
from relay.queue.dead_letter_pages import DeadLetter, oldest_first
from relay.queue.layout import MAX_HISTORY, PARTITIONS, any_key, keys, own_key, shared_key, wake_channel
from sluice.store import clock
from sluice.store.client import Arg, Call, Script, Store, load_script
from sluice.store.protocol.packing import Command

_REPLAY = load_script("relay.queue", "events", "partition", "forms", "replay")
_DROP = load_script("relay.queue", "events", "partition", "lately", "drop", drains=True)
_PAGE = 200


async def partition_times(store: Store) -> list[float]:
    """Unix seconds, by which the moments in each partition are to be read. Raises StoreAway or StoreRefused."""
    return await clock.times(store, [any_key(partition) for partition in range(PARTITIONS)])


class DeadLetters:
    """Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self.endpoint = endpoint
        self._store = store

    async def all(self, *, with_bodies: bool = False) -> AsyncIterator[DeadLetter]:
        """Oldest first. Letters that leave meanwhile hide none that stay."""
        async for _, letter in oldest_first(self._store, [self.endpoint], with_bodies=with_bodies):
            yield letter

    async def replay(self, letters: Sequence[DeadLetter]) -> int:
        """Puts them back, in front of younger events of their session. Returns how many were still dead.

        Whoever replays them in several calls does it in the order of their `sequence`: else one overtakes another.
        """
        replayed = await self._run(_REPLAY, letters, ())
        await self._store.commands(("PUBLISH", wake_channel(self.endpoint), ",".join(map(str, range(PARTITIONS)))))
        return replayed

    async def drop(self, letters: Sequence[DeadLetter]) -> int:
        """Deletes them for good, by a person's wish. Returns how many were still dead."""
        return await self._run(_DROP, letters, (MAX_HISTORY, "person"))

    async def drop_older(self, seconds: float) -> int:
        """Drops those that died longer ago than this. Returns how many there were."""
        dropped = 0
        for partition, now in enumerate(await partition_times(self._store)):
            before = int((now - seconds) * 1000)
            dead = own_key(self.endpoint, partition, "dead")
            oldest = ("ZRANGE", dead, "-inf", f"({before}", "BYSCORE", "LIMIT", 0, _PAGE)
            while entry_ids := (await self._store.commands(oldest))[0]:
                dropped += await self._store.run(
                    _DROP, keys(self.endpoint, partition), [MAX_HISTORY, "age", *entry_ids]
                )
        return dropped

    async def trim(self, max_events: int, max_bytes: int) -> int:
        """Drops the oldest of all partitions, as long as there are more than so many. Returns how many it dropped."""
        dropped = 0
        while True:
            events, size = await self._totals()
            oldest = await self._oldest() if events > max_events or size > max_bytes else []
            chosen: dict[int, list[bytes]] = {}
            for _, partition, entry_id, own_size in oldest:
                if events <= max_events and size <= max_bytes:
                    break
                events, size = events - 1, size - own_size
                chosen.setdefault(partition, []).append(entry_id)
            if not chosen:
                return dropped
            dropped += sum(
                await self._store.run_all(
                    [
                        Call(_DROP, keys(self.endpoint, partition), [MAX_HISTORY, "cap", *entry_ids])
                        for partition, entry_ids in chosen.items()
                    ]
                )
            )

    async def _totals(self) -> tuple[int, int]:
        """Letters and bytes in all partitions."""
        commands: list[Command] = []
        for partition in range(PARTITIONS):
            commands.append(("ZCARD", own_key(self.endpoint, partition, "dead")))
            commands.append(("HGET", own_key(self.endpoint, partition, "counts"), "dead_bytes"))
        answers = await self._store.commands(*commands)
        return sum(answers[::2]), sum(int(size or 0) for size in answers[1::2])

    async def _oldest(self) -> list[tuple[float, int, bytes, int]]:
        """When it died (ms), its partition, entry id and size, of the oldest of all partitions, oldest first."""
        ranges = [
            ("ZRANGE", own_key(self.endpoint, partition, "dead"), 0, _PAGE - 1, "WITHSCORES")
            for partition in range(PARTITIONS)
        ]
        oldest = sorted(
            (float(died), partition, entry_id)
            for partition, flat in enumerate(await self._store.commands(*ranges))
            for entry_id, died in zip(flat[::2], flat[1::2], strict=True)
        )[:_PAGE]
        sizes = await self._store.commands(
            *(("HSTRLEN", shared_key(partition, "events"), id_of(entry_id)) for _, partition, entry_id in oldest)
        )
        return [(*one, size) for one, size in zip(oldest, sizes, strict=True)]

    async def _run(self, script: Script, letters: Sequence[DeadLetter], first: Sequence[Arg]) -> int:
        by_partition: dict[int, list[bytes]] = {}
        for letter in letters:
            by_partition.setdefault(letter.partition, []).append(letter.entry_id)
        calls = [
            Call(script, keys(self.endpoint, partition), [*first, *entry_ids])
            for partition, entry_ids in by_partition.items()
        ]
        return sum(await self._store.run_all(calls))
