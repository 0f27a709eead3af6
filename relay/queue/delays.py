"""What limits with `over: queue` delay: brought forward when a limit is edited, or by a person.

An event keeps the numbers of the bucket that delays it (`accept.lua`), so what is left of its delay follows when they
change. Nothing is put off, and nothing is computed twice (`lua/hasten.lua`): whoever was interrupted begins again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from relay.queue.codec import microseconds
from relay.queue.layout import PARTITIONS, any_key, keys, own_key, wake_channel
from sluice.store import clock
from sluice.store.client import Arg, Store, load_script

_HASTEN = load_script("relay.queue", "events", "partition", "hasten", drains=True)
_PAGE = 100
"""Events in one call of the script, which reads and writes the record of each."""


@dataclass(frozen=True, slots=True)
class Numbers:
    interval: float
    """Seconds for one token; 0: the limit delays nothing any more."""
    burst: int = 0


NOW = Numbers(0.0)


@dataclass(frozen=True, slots=True)
class Delayed:
    """An event that waits because of a limit."""

    limit: str
    numbers: Numbers
    """Of its bucket when the delay was computed."""
    ordering_key: str
    """Its session, or its id where it has none."""
    event_id: str
    not_before: float
    """Unix seconds."""


async def release(store: Store, endpoint: str, *, session: str | None = None, limit: str | None = None) -> int:
    """Ends the delays of one session, of one limit, of both or of all; what else delays an event does not count then.

    Returns how many events go now instead of later. Raises StoreAway or StoreRefused: then some may have been released.
    """

    def chosen(one: Delayed) -> Numbers | None:
        return NOW if session in (None, one.ordering_key) and limit in (None, one.limit) else None

    return await _hasten(store, endpoint, chosen, heeding_others=False)


async def follow(store: Store, endpoint: str, numbers_of: Callable[[Delayed], Numbers | None]) -> int:
    """Shortens the delays to what the limits say now; None: as before. Where a limit is slower now, nothing changes.

    Returns how many events go earlier. Raises StoreAway or StoreRefused: then some may have been shortened.
    """
    return await _hasten(store, endpoint, numbers_of, heeding_others=True)


def limit_of(members: Sequence[bytes], event_id: str) -> str | None:
    """The limit that delays an event, where it is among these members of `delayed`."""
    found = [_read(member, b"0") for member in members]
    return next((one.limit for one in found if one.event_id == event_id), None)


async def forget_past(store: Store, endpoint: str) -> None:
    """Forgets delays that are over. Raises StoreAway or StoreRefused."""
    times = await clock.times(store, [any_key(partition) for partition in range(PARTITIONS)])
    await store.commands(
        *(
            ("ZREMRANGEBYSCORE", own_key(endpoint, partition, "delayed"), "-inf", int(now * 1000))
            for partition, now in enumerate(times)
        )
    )


async def _hasten(
    store: Store, endpoint: str, numbers_of: Callable[[Delayed], Numbers | None], *, heeding_others: bool
) -> int:
    hastened = 0
    times = await clock.times(store, [any_key(partition) for partition in range(PARTITIONS)])
    for partition, now in enumerate(times):
        async for page in _pages(store, own_key(endpoint, partition, "delayed"), now):
            args: list[Arg] = [int(heeding_others)]
            for member, score in page:
                numbers = numbers_of(_read(member, score))
                if numbers is not None:
                    args += (member, microseconds(numbers.interval) if numbers.interval else 0, numbers.burst)
            if len(args) > 1:
                hastened += await store.run(_HASTEN, keys(endpoint, partition), args)
    if hastened:
        await store.commands(("PUBLISH", wake_channel(endpoint), ",".join(map(str, range(PARTITIONS)))))
    return hastened


async def _pages(store: Store, key: str, now: float) -> AsyncIterator[list[tuple[bytes, bytes]]]:
    """By the moment until which they wait: one that is brought forward is not seen again."""
    begin = str(int(now * 1000))
    while True:
        (flat,) = await store.commands(("ZRANGE", key, begin, "+inf", "BYSCORE", "LIMIT", 0, _PAGE, "WITHSCORES"))
        if not flat:
            return
        last = flat[-1]
        (same,) = await store.commands(("ZRANGE", key, last, last, "BYSCORE", "WITHSCORES"))
        page = dict(zip(flat[::2] + same[::2], flat[1::2] + same[1::2], strict=True))
        yield list(page.items())
        begin = f"({last.decode()}"


def _read(member: bytes, score: bytes) -> Delayed:
    about, ordering_key, event_id = member.decode("utf-8", "replace").split("\0")
    limit, interval, burst, _ = about.split(" ")
    return Delayed(limit, Numbers(int(interval) / 1e6, int(burst)), ordering_key, event_id, float(score) / 1000)
