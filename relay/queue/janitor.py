"""Drops what is too old: dead letters that nobody came for within `retention.dead`, and what is known of what is over.

For every endpoint that has anything in the store, whether the policies name it or not. Where they do not, no relay
clears away what is not worth sending any more, so it is done here.
"""

from __future__ import annotations

from collections.abc import Collection

from relay.queue import delays, endpoints, history
from relay.queue.dead_letters import DeadLetters
from relay.queue.waiting import Waiting
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("relay")
EVERY = 60.0


async def run_once(store: Store, policies: Collection[str], keep_dead: float, keep_delivered: float) -> None:
    """`policies`: the endpoints that they name. While the store is away nothing is done; the next run will."""
    try:
        await endpoints.search(store)
        await endpoints.note(store, policies)
        for endpoint in sorted(await endpoints.names(store)):
            await _clean(store, endpoint, keep_dead, keep_delivered)
            if endpoint not in policies:
                await _clear_stranded(store, endpoint)
    except (StoreAway, StoreRefused):
        return


async def _clean(store: Store, endpoint: str, keep_dead: float, keep_delivered: float) -> None:
    dropped = await DeadLetters(store, endpoint).drop_older(keep_dead)
    await history.forget_older(store, endpoint, keep_delivered)
    await delays.forget_past(store, endpoint)
    if dropped:
        LOG.info("dead.dropped", endpoint=endpoint, letters=dropped, older_than_s=keep_dead)


async def _clear_stranded(store: Store, endpoint: str) -> None:
    expired = await Waiting(store, endpoint).expire()
    if expired:
        LOG.info("stranded.expired", endpoint=endpoint, events=expired)
    await endpoints.forget_empty(store, endpoint)
