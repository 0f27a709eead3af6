"""The dead letters of one endpoint: deliveries that ran out of attempts or were rejected, and wait for a person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from relay.queue.codec import Headers, id_of, unpack
from relay.queue.layout import KEYS, MAX_HISTORY, PARTITIONS, keys, wake_channel
from sluice.store.client import Call, Script, Store, load_script

_REPLAY = load_script("relay.queue", "events", "partition", "replay")
_DROP = load_script("relay.queue", "events", "partition", "drop", drains=True)
_PAGE = 200


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`accepted_at` and `died_at` in unix seconds."""

    id: str
    type: str
    session: str | None
    died_at: float
    reason: str
    target: bytes
    headers: Headers
    body: bytes
    accepted_at: float
    partition: int
    entry_id: bytes

    @property
    def sequence(self) -> int:
        """By which it is sent within its session."""
        at = self.entry_id.index(b"\0") + 1
        return int(self.entry_id[at : at + 14])


class DeadLetters:
    """Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self.endpoint = endpoint
        self._store = store

    async def all(self) -> AsyncIterator[DeadLetter]:
        """Oldest first within each partition, a page at a time. What goes meanwhile hides nothing that stays."""
        for partition in range(PARTITIONS):
            key = dict(zip(KEYS, keys(self.endpoint, partition), strict=True))
            async for page in self._pages(key["dead"]):
                eids = [entry_id for entry_id, _ in page]
                records, reasons = await self._store.commands(
                    ("HMGET", key["events"], *(id_of(entry_id) for entry_id in eids)), ("HMGET", key["reasons"], *eids)
                )
                for (entry_id, died_at), record, reason in zip(page, records, reasons, strict=True):
                    if record is not None:
                        yield _dead_letter(partition, entry_id, died_at, record, reason)

    async def _pages(self, key: str) -> AsyncIterator[list[tuple[bytes, float]]]:
        """By the moment they died, and not by their number, which changes when others go."""
        last, seen = "-inf", set[bytes]()  # those of the last moment that were given out
        while True:
            asked = ("ZRANGE", key, last, "+inf", "BYSCORE", "LIMIT", 0, _PAGE + len(seen), "WITHSCORES")
            (flat,) = await self._store.commands(asked)
            page = [(entry_id, at) for entry_id, at in zip(flat[::2], flat[1::2], strict=True) if entry_id not in seen]
            if not page:
                return
            yield [(entry_id, float(at)) for entry_id, at in page]
            moment = page[-1][1]
            same = {entry_id for entry_id, at in page if at == moment}
            last, seen = moment.decode(), same | seen if moment.decode() == last else same

    async def now(self) -> float:
        """Unix seconds by the clock that says when letters died."""
        ((seconds, micros),) = await self._store.commands(("TIME",))
        return int(seconds) + int(micros) / 1e6

    async def replay(self, letters: Sequence[DeadLetter]) -> int:
        """Puts them back, in front of younger events of their session. How many were still dead.

        Where they do not go all at once, they are to go by their `sequence`: else one overtakes another.
        """
        replayed = await self._run(_REPLAY, letters, ())
        await self._store.commands(("PUBLISH", wake_channel(self.endpoint), ",".join(map(str, range(PARTITIONS)))))
        return replayed

    async def drop(self, letters: Sequence[DeadLetter]) -> int:
        """Erases them for good. How many were still dead."""
        return await self._run(_DROP, letters, (MAX_HISTORY,))

    async def drop_older(self, seconds: float) -> int:
        """Drops those that died longer ago than this. How many there were."""
        ((now, _),) = await self._store.commands(("TIME",))
        before = int(now) * 1000 - int(seconds * 1000)
        dropped = 0
        for partition in range(PARTITIONS):
            declared = keys(self.endpoint, partition)
            oldest = ("ZRANGE", declared[KEYS.index("dead")], "-inf", f"({before}", "BYSCORE", "LIMIT", 0, _PAGE)
            while eids := (await self._store.commands(oldest))[0]:
                dropped += await self._store.run(_DROP, declared, [MAX_HISTORY, *eids])
        return dropped

    async def _run(self, script: Script, letters: Sequence[DeadLetter], first: Sequence[int]) -> int:
        by_partition: dict[int, list[bytes]] = {}
        for letter in letters:
            by_partition.setdefault(letter.partition, []).append(letter.entry_id)
        calls = [
            Call(script, keys(self.endpoint, partition), [*first, *eids]) for partition, eids in by_partition.items()
        ]
        return sum(await self._store.run_all(calls))


def _dead_letter(partition: int, entry_id: bytes, died_at: float, record: bytes, reason: bytes | None) -> DeadLetter:
    event = unpack(record)
    return DeadLetter(
        id=event.id,
        type=event.type,
        session=event.session,
        died_at=died_at / 1000,
        reason=(reason or b"").decode("utf-8", "replace"),
        target=event.target,
        headers=event.headers,
        body=event.body,
        accepted_at=event.accepted_at,
        partition=partition,
        entry_id=entry_id,
    )
