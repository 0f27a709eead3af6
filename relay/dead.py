"""The dead letters of one endpoint: deliveries that ran out of attempts or were rejected, and wait for a person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import count

from relay.event import Headers, id_of, unpack
from relay.layout import KEYS, LOGGED, PARTITIONS, keys, wake_channel
from runtime.store import Call, Script, Store, load_script

_REPLAY = load_script("relay", "events", "partition", "replay")
_DROP = load_script("relay", "draining", "events", "partition", "drop")
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
    eid: bytes


class DeadLetters:
    """Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, endpoint: str) -> None:
        self.endpoint = endpoint
        self._store = store

    async def all(self) -> AsyncIterator[DeadLetter]:
        """Oldest first within each partition, a page at a time. What comes or goes meanwhile may be left out."""
        for partition in range(PARTITIONS):
            key = dict(zip(KEYS, keys(self.endpoint, partition), strict=True))
            for first in count(0, _PAGE):
                (page,) = await self._store.commands(("ZRANGE", key["dead"], first, first + _PAGE - 1, "WITHSCORES"))
                if not page:
                    break
                eids = page[::2]
                records, reasons = await self._store.commands(
                    ("HMGET", key["events"], *(id_of(eid) for eid in eids)), ("HMGET", key["reasons"], *eids)
                )
                for eid, died_at, record, reason in zip(eids, page[1::2], records, reasons, strict=True):
                    if record is not None:
                        yield _dead_letter(partition, eid, float(died_at), record, reason)

    async def replay(self, letters: Sequence[DeadLetter]) -> int:
        """Puts them back, in front of younger events of their session. How many were still dead."""
        replayed = await self._run(_REPLAY, letters, ())
        await self._store.commands(("PUBLISH", wake_channel(self.endpoint), ",".join(map(str, range(PARTITIONS)))))
        return replayed

    async def drop(self, letters: Sequence[DeadLetter]) -> int:
        """Erases them for good. How many were still dead."""
        return await self._run(_DROP, letters, (LOGGED,))

    async def drop_older(self, seconds: float) -> int:
        """Drops those that died longer ago than this. How many there were."""
        ((now, _),) = await self._store.commands(("TIME",))
        before = int(now) * 1000 - int(seconds * 1000)
        dropped = 0
        for partition in range(PARTITIONS):
            declared = keys(self.endpoint, partition)
            oldest = ("ZRANGE", declared[KEYS.index("dead")], "-inf", f"({before}", "BYSCORE", "LIMIT", 0, _PAGE)
            while eids := (await self._store.commands(oldest))[0]:
                dropped += await self._store.run(_DROP, declared, [LOGGED, *eids])
        return dropped

    async def _run(self, script: Script, letters: Sequence[DeadLetter], first: Sequence[int]) -> int:
        by_partition: dict[int, list[bytes]] = {}
        for letter in letters:
            by_partition.setdefault(letter.partition, []).append(letter.eid)
        calls = [
            Call(script, keys(self.endpoint, partition), [*first, *eids]) for partition, eids in by_partition.items()
        ]
        return sum(await self._store.run_all(calls))


def _dead_letter(partition: int, eid: bytes, died_at: float, record: bytes, reason: bytes | None) -> DeadLetter:
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
        eid=eid,
    )
