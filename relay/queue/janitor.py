"""Drops what is too old: dead letters that nobody came for within `retention.dead`, bodies of delivered events, and
what is known of what is over.

Of dead letters or bodies that are too many, the oldest go. For every endpoint that has anything in the store, whether
the policies name it or not. Where they do not, no relay clears away what is not worth sending any more, so it is done
here.
"""

from __future__ import annotations

from collections.abc import Collection

from relay import metrics
from relay.policies import Retention
from relay.queue import delays, endpoints, fences, history
from relay.queue.dead_letters import DeadLetters
from relay.queue.kept import Kept
from relay.queue.waiting import Waiting
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("relay")
EVERY = 60.0
TRIM_EVERY = 1.0
"""Seconds for which there may be more dead letters, or bodies of delivered events, than `retention` says."""


async def run_once(store: Store, policies: Collection[str], retention: Retention) -> None:
    """`policies`: the endpoints that they name. While the store is away nothing is done; the next run will."""
    try:
        await endpoints.search(store)
        await endpoints.note(store, policies)
        await fences.forget_old(store)
        for endpoint in sorted(await endpoints.names(store)):
            await _clean(store, endpoint, retention)
            if endpoint not in policies:
                await _clear_stranded(store, endpoint)
    except (StoreAway, StoreRefused):
        return


async def trim_dead(store: Store, endpoint: str, retention: Retention) -> None:
    """Drops the oldest dead letters where there are too many. Raises StoreAway or StoreRefused."""
    dropped = await DeadLetters(store, endpoint).trim(retention.dead_events, retention.dead_bytes)
    if dropped:
        metrics.dead_letters_dropped(endpoint, "cap", dropped)
        LOG.warning("dead.capped", endpoint=endpoint, letters=dropped)


async def trim_kept(store: Store, endpoint: str, retention: Retention) -> None:
    """Drops the oldest bodies of delivered events where they have too many bytes. Raises StoreAway or StoreRefused."""
    dropped = await Kept(store, endpoint).trim(retention.bodies_bytes)
    if dropped:
        metrics.bodies_dropped(endpoint, dropped)


async def _clean(store: Store, endpoint: str, retention: Retention) -> None:
    dropped = await DeadLetters(store, endpoint).drop_older(retention.dead)
    await history.forget_older(store, endpoint, retention.delivered)
    await delays.forget_past(store, endpoint)
    if dropped:
        metrics.dead_letters_dropped(endpoint, "age", dropped)
        LOG.info("dead.dropped", endpoint=endpoint, letters=dropped, older_than_s=retention.dead)
    await trim_dead(store, endpoint, retention)
    await Kept(store, endpoint).drop_older(retention.bodies)
    await trim_kept(store, endpoint, retention)


async def _clear_stranded(store: Store, endpoint: str) -> None:
    expired = await Waiting(store, endpoint).expire()
    if expired:
        LOG.info("stranded.expired", endpoint=endpoint, events=expired)
    await endpoints.forget_empty(store, endpoint)
