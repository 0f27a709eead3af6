"""The limiter: one decision over all buckets of a request, exact across processes.

Concurrent requests of a process share a call of `take.lua`. When the store does not answer in time, each limit's
`when_store_away` decides, and for a moment nobody waits for the store again. Owns the keys `sl:{l}:*`.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import orjson

from gateway import metrics
from gateway.limits.applicable import Bucket, LocalBucket
from gateway.limits.denial_cache import DenialCache
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused, load_script
from sluice.store.protocol.errors import Full
from sluice.store.shared_calls import SharedCalls

LOG = Log("gateway")
TAKE = load_script("gateway.limits", "take")
_SHARED, _WAITING = 64, 10_000
_AWAY_FOR = 0.25  # seconds between two tries while the store is away
_MAX_LOCAL = 100_000

Verdict = Literal["pass", "drop", "reject", "unavailable"]


@dataclass(slots=True, init=False)
class Decision:
    """`unavailable`: the store is away and a limit says `deny` then. Never changed."""

    verdict: Verdict
    limit: str | None = None
    """The limit that refuses, and for longest where several do."""
    retry_after: float = 0.0
    """Seconds until it would pass, when refused."""
    delay: float = 0.0
    """Seconds before a relayed event may be delivered, when it passes."""
    violated: tuple[str, ...] = ()
    """All limits that refuse, as far as is known."""
    levels: Sequence[float] = ()
    """The tokens of each of its buckets afterwards; empty where that is not known."""

    def __init__(
        self,
        verdict: Verdict,
        limit: str | None = None,
        retry_after: float = 0.0,
        delay: float = 0.0,
        violated: tuple[str, ...] = (),
        levels: Sequence[float] = (),
    ) -> None:
        self.verdict = verdict
        self.limit = limit
        self.retry_after = retry_after
        self.delay = delay
        self.violated = violated
        self.levels = levels


PASS = Decision("pass")
_CODES = {"e": 0, "q": 1, "o": 2, "g": 3}


class _Answer:
    """Of `take.lua` for one request. `asked_at`: monotonic, before it was asked."""

    __slots__ = ("asked_at", "row")

    def __init__(self, row: list[float], asked_at: float) -> None:
        self.row = row
        self.asked_at = asked_at


class Limiter:
    """`gateways`: how many of them share what is counted in processes while the store is away."""

    def __init__(self, store: Store) -> None:
        self.gateways = 1
        self._store = store
        self._calls: dict[str, SharedCalls[list[Bucket], _Answer]] = {}
        self._refusals = DenialCache()
        self._local: OrderedDict[str, LocalBucket] = OrderedDict()
        self._away_until = 0.0
        self._away = False
        self._probing = False

    async def take(self, buckets: list[Bucket]) -> Decision:
        """What it costs from every bucket, or nothing from any. Never raises for an absent store."""
        if not buckets:
            return PASS
        now = time.monotonic()
        known = self._refusals.find(buckets, now)
        if known is not None:
            return _refused_again(*known)
        if now < self._away_until or self._probing:
            return self._without_store(buckets, now)
        self._probing = self._away  # one finds out whether the store is back; nobody waits with it
        try:
            answer = await self._ask(buckets)
        except (StoreAway, StoreRefused):
            return self._without_store(buckets, time.monotonic())
        except Full as error:
            self._went_away(error)
            return self._without_store(buckets, time.monotonic())
        finally:
            self._probing = False
        if self._away:
            self._came_back()
        return self._decide(buckets, answer)

    def forget(self) -> None:
        """What was refused under other policies."""
        self._refusals.forget()

    def _decide(self, buckets: Sequence[Bucket], answer: _Answer) -> Decision:
        refusing, refused_for, delay, had, *levels = answer.row
        _count(buckets, int(refusing), int(had))
        if not refusing:
            return Decision("pass", delay=delay / 1e6, levels=levels)
        violated = [pair for i, pair in enumerate(zip(buckets, levels, strict=True)) if int(refusing) >> i & 1]
        for bucket, level in violated:
            self._refusals.remember(bucket, answer.asked_at, (bucket.cost - level) * bucket.interval)
        longest, _ = max(violated, key=lambda pair: (pair[0].cost - pair[1]) * pair[0].interval)
        return Decision(
            _refusal(longest),
            longest.limit.id,
            retry_after=refused_for / 1e6,
            violated=tuple(bucket.limit.id for bucket, _ in violated),
            levels=levels,
        )

    async def _ask(self, buckets: list[Bucket]) -> _Answer:
        """One call; on a cluster one for each slot, side by side. What some took and others refused is given back."""
        parts = _slots(buckets)
        if len(parts) == 1:
            return await self._calls_of(*parts).ask(buckets)
        asked = [(self._calls_of(slot), part) for slot, part in parts.items()]
        answers = await asyncio.gather(*(calls.ask(part) for calls, part in asked), return_exceptions=True)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        answered = [answer for answer in answers if not isinstance(answer, BaseException)]
        if failed or any(answer.row[0] for answer in answered):
            await asyncio.gather(
                *(
                    calls.ask([replace(bucket, how="g") for bucket in part if bucket.how != "o"])
                    for (calls, part), answer in zip(asked, answers, strict=True)
                    if not isinstance(answer, BaseException) and not answer.row[0]
                ),
                return_exceptions=True,
            )
        if failed:
            raise failed[0]
        return _joined(buckets, list(parts.values()), answered)

    def _calls_of(self, slot: str) -> SharedCalls[list[Bucket], _Answer]:
        found = self._calls.get(slot)
        if found is None:
            found = self._calls[slot] = SharedCalls(self._take_all, size=_SHARED, waiting=_WAITING)
        return found

    async def _take_all(self, requests: Sequence[list[Bucket]]) -> list[_Answer]:
        asked_at = time.monotonic()
        if asked_at < self._away_until:
            raise StoreAway("the call before this one failed")  # waits must not add up
        keys, asked = _asked(requests)
        try:
            rows = orjson.loads(await self._store.run(TAKE, keys, [asked]))
        except (StoreAway, StoreRefused) as error:
            self._went_away(error)
            raise
        return [_Answer(row, asked_at) for row in rows]

    def _went_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + _AWAY_FOR
        if not self._away:
            self._away = True
            LOG.error("limiter.store_away", reason=str(error) or type(error).__name__)

    def _came_back(self) -> None:
        self._away = False
        self._local.clear()
        LOG.info("limiter.store_back")

    def _without_store(self, buckets: Sequence[Bucket], now: float) -> Decision:
        """What the limits say while the store is away; `local` ones are counted in this process, all or nothing too."""
        local: list[tuple[LocalBucket, int]] = []
        refusing: list[tuple[Bucket, float]] = []
        delay = 0.0
        for bucket in buckets:
            limit = bucket.limit
            metrics.decided_without_store(limit.id)
            if bucket.how == "o" or limit.when_store_away == "allow":
                continue
            if limit.when_store_away == "deny":
                return Decision("unavailable", limit.id, retry_after=1.0, violated=(limit.id,))
            found = self._local_bucket(bucket, now)
            wait = found.wait(now, bucket.interval * self.gateways, self._share(bucket), bucket.cost)
            local.append((found, bucket.cost))
            if bucket.how == "q":
                delay = max(delay, wait)
            elif wait > 0:
                refusing.append((bucket, wait))
        if refusing:
            longest, wait = max(refusing, key=lambda pair: pair[1])
            violated = tuple(bucket.limit.id for bucket, _ in refusing)
            return Decision(_refusal(longest), longest.limit.id, retry_after=wait, violated=violated)
        for found, cost in local:
            found.take(cost)
        return Decision("pass", delay=delay)

    def _share(self, bucket: Bucket) -> float:
        """This gateway's part of a burst: not less than what one request costs, which could never pass otherwise."""
        return max(bucket.cost, bucket.burst / self.gateways)

    def _local_bucket(self, bucket: Bucket, now: float) -> LocalBucket:
        found = self._local.get(bucket.key)
        if found is None:
            found = self._local[bucket.key] = LocalBucket(self._share(bucket), now)
            if len(self._local) > _MAX_LOCAL:
                self._local.popitem(last=False)
        return found


async def levels_of(store: Store, buckets: Sequence[Bucket]) -> list[float]:
    """The tokens of each bucket now; nothing is taken. Raises StoreAway or StoreRefused."""
    # More than there can be, and only observed: nothing is taken, and the level is told.
    asked = [[replace(bucket, how="o", cost=bucket.burst + 1)] for bucket in buckets]
    rows = [orjson.loads(await store.run(TAKE, *_call_of([one])))[0] for one in asked]
    return [row[4] for row in rows]


def _call_of(requests: Sequence[Sequence[Bucket]]) -> tuple[list[str], list[bytes]]:
    keys, asked = _asked(requests)
    return keys, [asked]


def _asked(requests: Sequence[Sequence[Bucket]]) -> tuple[list[str], bytes]:
    """Each bucket once, and what take.lua is to decide on them."""
    indices: dict[str, int] = {}
    numbers: list[tuple[float, int]] = []
    coded: list[list[int]] = []
    for buckets in requests:
        row = []
        for bucket in buckets:
            index = indices.get(bucket.key)
            if index is None:
                index = indices[bucket.key] = len(indices) + 1
                numbers.append((bucket.interval * 1e6, bucket.burst))
            row.append(4 * index + _CODES[bucket.how])
            if bucket.cost != 1:
                row.append(-bucket.cost)
        coded.append(row)
    return list(indices), orjson.dumps({"buckets": numbers, "requests": coded})


def _slots(buckets: list[Bucket]) -> dict[str, list[Bucket]]:
    """The buckets by the hash tags of their keys: nearly always one for all."""
    first = buckets[0].key
    tag = first[: first.index("}")]
    if all(bucket.key.startswith(tag) for bucket in buckets):
        return {tag: buckets}
    parts: dict[str, list[Bucket]] = {}
    for bucket in buckets:
        parts.setdefault(bucket.key[: bucket.key.index("}")], []).append(bucket)
    return parts


def _joined(buckets: Sequence[Bucket], parts: Sequence[Sequence[Bucket]], answers: Sequence[_Answer]) -> _Answer:
    """As if one call had decided them all."""
    refusing = had = 0
    levels = [0.0] * len(buckets)
    places = {bucket.key: i for i, bucket in enumerate(buckets)}
    for part, answer in zip(parts, answers, strict=True):
        for i, bucket in enumerate(part):
            place = places[bucket.key]
            refusing |= (int(answer.row[0]) >> i & 1) << place
            had |= (int(answer.row[3]) >> i & 1) << place
            levels[place] = answer.row[4 + i]
    refused_for = max(answer.row[1] for answer in answers)
    delay = 0.0 if refusing else max(answer.row[2] for answer in answers)
    return _Answer([refusing, refused_for, delay, had, *levels], min(answer.asked_at for answer in answers))


def _refused_again(bucket: Bucket, wait: float) -> Decision:
    verdict = _refusal(bucket)
    metrics.decided(bucket.limit.id, "dropped" if verdict == "drop" else "rejected")
    return Decision(verdict, bucket.limit.id, retry_after=wait, violated=(bucket.limit.id,))


def _refusal(bucket: Bucket) -> Literal["drop", "reject"]:
    return "drop" if bucket.limit.over == "drop" else "reject"


def _count(buckets: Sequence[Bucket], refusing: int, had: int) -> None:
    """`refusing`, `had`: a bit for each bucket that refuses, and that had its tokens."""
    for i, bucket in enumerate(buckets):
        limit = bucket.limit
        if bucket.how == "o":
            metrics.decided(limit.id, "allowed" if had >> i & 1 else "would_reject")
        elif not refusing:
            metrics.decided(limit.id, "allowed" if had >> i & 1 else "delayed")
        elif refusing >> i & 1:
            metrics.decided(limit.id, "dropped" if limit.over == "drop" else "rejected")


def retry_after_header(seconds: float) -> bytes:
    """Whole seconds, one at least (RFC 9110 section 10.2.3)."""
    return b"%d" % max(1, math.ceil(seconds))
