"""The buckets as a strategy of the library `limits`, which has none; a public interface (docs/token-buckets.md).

An amount is rate and burst alike. A key does not hold the numbers, so an edited limit finds its level again.
"""

from __future__ import annotations

import time

import orjson
from limits import RateLimitItem
from limits.util import WindowStats

from gateway.limits.applicable import OBSERVE, PREFIX, REFUSE, Enforcement
from gateway.limits.decide import TOLERANCE
from gateway.limits.take import TAKE
from sluice.store.client import Store


class TokenBuckets:
    """`limits.aio.strategies.RateLimiter` without its storage. All raise StoreAway or StoreRefused."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """True if so many tokens were there; they are taken then."""
        passed, _ = await self._ask(item, identifiers, REFUSE, cost)
        return passed

    async def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """True if so many tokens are there; none is taken."""
        return await self._level(item, identifiers) >= cost - TOLERANCE

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """When the bucket will be full (seconds since the Epoch), and how many tokens it has now."""
        level = await self._level(item, identifiers)
        return WindowStats(time.time() + (item.amount - level) * _interval(item), max(0, int(level + TOLERANCE)))

    async def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        """Full again."""
        await self._store.commands(("DEL", _key(item, identifiers)))

    async def _level(self, item: RateLimitItem, identifiers: tuple[str, ...]) -> float:
        # More than there can be, and only observed: nothing is taken, and the level is told.
        _, level = await self._ask(item, identifiers, OBSERVE, item.amount + 1)
        return level

    async def _ask(
        self, item: RateLimitItem, identifiers: tuple[str, ...], mode: Enforcement, cost: int
    ) -> tuple[bool, float]:
        """Whether so many tokens were there, and the level afterwards."""
        request = orjson.dumps({"buckets": [[_interval(item) * 1e6, item.amount]], "requests": [[4 + mode, -cost]]})
        marks, _, _, level = orjson.loads(await self._store.run(TAKE, [_key(item, identifiers)], [request]))[0]
        return not marks, level


def _interval(item: RateLimitItem) -> float:
    """Seconds for one token."""
    return item.get_expiry() / item.amount


def _key(item: RateLimitItem, identifiers: tuple[str, ...]) -> str:
    return PREFIX + "\0".join((item.namespace, *identifiers))
