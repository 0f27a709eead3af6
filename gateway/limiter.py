"""The limiter: one decision over all buckets of a request, exact across processes.

Concurrent requests of a process share a call of `take.lua`. When the store does not answer in time, each limit's
`when_store_away` decides, and for a moment nobody waits for the store again. Owns the keys `sl:{limits}:*`.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from gateway.buckets import Bucket, LocalBucket
from runtime import metrics
from runtime.logs import Log
from runtime.shared_calls import Full, SharedCalls
from runtime.store import Store, StoreAway, StoreRefused, load_script

LOG = Log("gateway")
_TAKE = load_script("gateway", "take")
_SHARED, _WAITING = 64, 10_000
_AWAY_FOR = 0.25  # seconds between two tries while the store is away
_MOST_LOCAL = 100_000

Verdict = Literal["pass", "drop", "reject", "unavailable"]


@dataclass(frozen=True, slots=True)
class Decision:
    """`unavailable`: the store is away and a limit says `deny` then."""

    verdict: Verdict
    limit: str | None = None
    """The limit that refuses."""
    retry_after: float = 0.0
    """Seconds until it would pass, when refused."""
    delay: float = 0.0
    """Seconds before a relayed event may be delivered, when it passes."""


PASS = Decision("pass")
_Row = tuple[int, int, int, int]
_CODES = {"e": 0, "q": 1, "o": 2}


class Limiter:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._calls: SharedCalls[Sequence[Bucket], _Row] = SharedCalls(self._take_all, size=_SHARED, waiting=_WAITING)
        self._local: OrderedDict[str, LocalBucket] = OrderedDict()
        self._away_until = 0.0
        self._away = False
        self._probing = False

    async def take(self, buckets: Sequence[Bucket]) -> Decision:
        """A token from every bucket, or from none. Never raises for an absent store."""
        if not buckets:
            return PASS
        now = time.monotonic()
        if now < self._away_until or self._probing:
            return self._without_store(buckets, now)
        self._probing = self._away  # one finds out whether the store is back; nobody waits with it
        try:
            row = await self._calls.ask(buckets)
        except (StoreAway, StoreRefused):
            return self._without_store(buckets, time.monotonic())
        except Full as error:
            self._went_away(error)
            return self._without_store(buckets, time.monotonic())
        finally:
            self._probing = False
        self._came_back()
        return _decision(buckets, row)

    async def _take_all(self, requests: Sequence[Sequence[Bucket]]) -> list[_Row]:
        if time.monotonic() < self._away_until:
            raise StoreAway("the call before this one failed")  # waits must not add up
        keys, asked = _asked(requests)
        try:
            rows: list[_Row] = await self._store.run(_TAKE, keys, [asked])
        except (StoreAway, StoreRefused) as error:
            self._went_away(error)
            raise
        return rows

    def _went_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + _AWAY_FOR
        if not self._away:
            self._away = True
            LOG.error("limiter.store_away", reason=str(error) or type(error).__name__)

    def _came_back(self) -> None:
        if self._away:
            self._away = False
            self._local.clear()
            LOG.info("limiter.store_back")

    def _without_store(self, buckets: Sequence[Bucket], now: float) -> Decision:
        """What the limits say while the store is away; `local` ones are counted in this process, all or nothing too."""
        local: list[LocalBucket] = []
        refused, delay = PASS, 0.0
        for bucket in buckets:
            limit = bucket.limit
            metrics.decided_without_store(limit.id)
            if limit.observe or limit.when_store_away == "allow":
                continue
            if limit.when_store_away == "deny":
                return Decision("unavailable", limit.id, retry_after=1.0)
            found = self._local_bucket(bucket, now)
            wait = found.wait(now, limit.rate.interval, limit.burst)
            local.append(found)
            if bucket.how == "q":
                delay = max(delay, wait)
            elif wait > refused.retry_after:
                refused = Decision(_refusal(bucket), limit.id, retry_after=wait)
        if refused is not PASS:
            return refused
        for found in local:
            found.take()
        return Decision("pass", delay=delay)

    def _local_bucket(self, bucket: Bucket, now: float) -> LocalBucket:
        found = self._local.get(bucket.key)
        if found is None:
            found = self._local[bucket.key] = LocalBucket(float(bucket.limit.burst), now)
            if len(self._local) > _MOST_LOCAL:
                self._local.popitem(last=False)
        return found


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
                numbers.append((bucket.limit.rate.interval * 1e6, bucket.limit.burst))
            row.append(4 * index + _CODES[bucket.how])
        coded.append(row)
    return list(indices), orjson.dumps({"buckets": numbers, "requests": coded})


def _decision(buckets: Sequence[Bucket], row: _Row) -> Decision:
    refusing, refused_for, delay, had = row
    _count(buckets, refusing, had)
    if refusing:
        bucket = buckets[refusing - 1]
        return Decision(_refusal(bucket), bucket.limit.id, retry_after=refused_for / 1e6)
    return Decision("pass", delay=delay / 1e6) if delay else PASS


def _refusal(bucket: Bucket) -> Literal["drop", "reject"]:
    return "drop" if bucket.limit.over == "drop" else "reject"


def _count(buckets: Sequence[Bucket], refusing: int, had: int) -> None:
    """`had`: a bit for each bucket that had a token."""
    for i, bucket in enumerate(buckets, 1):
        if bucket.how == "o":
            metrics.decided(bucket.limit.id, "allowed" if had >> (i - 1) & 1 else "would_reject")
        elif not refusing:
            metrics.decided(bucket.limit.id, "allowed" if had >> (i - 1) & 1 else "delayed")
        elif i == refusing:
            metrics.decided(bucket.limit.id, "dropped" if bucket.limit.over == "drop" else "rejected")


def retry_after_header(seconds: float) -> bytes:
    """Whole seconds, one at least (RFC 9110 section 10.2.3)."""
    return b"%d" % max(1, math.ceil(seconds))
