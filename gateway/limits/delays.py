"""Delays of limits with `over: queue` follow an edit: what waits goes earlier where its limit is faster now.

Each gateway does it when it begins and after each edit of the limits; that several do it changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway.limits.overrides import Overrides
from gateway.policies import Limit, Override, Policies
from relay.queue import delays
from relay.queue.delays import NOW, Delayed, Numbers
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("gateway")
EVERY = 1.0
"""Seconds after which an edit is looked for, or the store is tried again."""


class Delays:
    """What waits in the store, held to the limits in force."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._followed: object = None

    async def run_once(self, policies: Policies) -> None:
        """Nothing where limits and endpoints are those of the last time. While the store is away the next run tries."""
        wanted = policies.limits, tuple(policies.relay.endpoints)
        if wanted == self._followed:
            return
        numbers_of = numbers_under(policies, time.time())
        for endpoint in policies.relay.endpoints:
            try:
                hastened = await delays.follow(self._store, endpoint, numbers_of)
            except (StoreAway, StoreRefused):
                return
            if hastened:
                LOG.info("delays.shortened", endpoint=endpoint, events=hastened)
        self._followed = wanted


def numbers_under(policies: Policies, now: float) -> Callable[[Delayed], Numbers | None]:
    """What each delayed event's bucket has now. `now`: unix seconds."""
    limits = {limit.id: limit for limit in policies.limits if limit.over == "queue" and not limit.observe}
    overrides = {name: Overrides(limit.overrides, policies.trust.lists) for name, limit in limits.items()}

    def numbers_of(one: Delayed) -> Numbers | None:
        limit = limits.get(one.limit)
        if limit is None:
            return NOW
        override = overrides[one.limit].of_session(one.ordering_key, now)
        if override is not None:
            return _of(override)
        # Which workspace or address it came from is not known any more: unchanged numbers of an override stay.
        return None if one.numbers in _others(limit, now) else Numbers(limit.rate.interval, limit.burst)

    return numbers_of


def _others(limit: Limit, now: float) -> list[Numbers]:
    return [_of(it) for it in limit.overrides if it.by != "session" and (it.until is None or now < it.until)]


def _of(override: Override) -> Numbers:
    return Numbers(override.rate.interval, override.burst) if override.rate is not None else NOW
