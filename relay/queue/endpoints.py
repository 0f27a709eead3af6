"""Which endpoints have anything in the store, whatever the policies say: one that is gone leaves nothing unseen.

`lua/accept.lua` notes an endpoint with its first event. The relay notes those of its policies as well, and looks once
through the keys of a store that an earlier version has filled.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from relay.queue.layout import PARTITIONS, endpoints_key, keys
from sluice.store.client import Call, Store, load_script
from sluice.store.scan import scan

KEY_PATTERNS = ("sl:endpoints-searched",)
_FORGET = load_script("relay.queue", "forget", drains=True)
_COUNTS = re.compile(rb"sl:\{\d\d\}:([^:]+):counts")


async def names(store: Store) -> set[str]:
    """All of them. Raises StoreAway or StoreRefused."""
    found = await store.commands(*(("SMEMBERS", endpoints_key(partition)) for partition in range(PARTITIONS)))
    return {name.decode() for of_partition in found for name in of_partition}


async def note(store: Store, endpoints: Collection[str]) -> None:
    """Adds these. Raises StoreAway or StoreRefused."""
    if endpoints:
        await store.commands(*(("SADD", endpoints_key(partition), *endpoints) for partition in range(PARTITIONS)))


async def search(store: Store) -> None:
    """Adds those whose keys are there, once in the life of a store; a thousand keys are looked at in each call.

    Raises StoreAway or StoreRefused; then the next call begins anew.
    """
    (searched,) = await store.commands(("EXISTS", KEY_PATTERNS[0]))
    if searched:
        return
    found = {match[1].decode() async for key in scan(store, "sl:{*}:*:counts") if (match := _COUNTS.fullmatch(key))}
    await note(store, found)
    await store.commands(("SET", KEY_PATTERNS[0], "1"))


async def forget_empty(store: Store, endpoint: str) -> None:
    """Deletes all that is left of an endpoint where none of its events waits, is dead, kept or in its history.

    For one that the policies do not name. Raises StoreAway or StoreRefused.
    """
    calls = [
        Call(_FORGET, [endpoints_key(partition), *keys(endpoint, partition)], [endpoint])
        for partition in range(PARTITIONS)
    ]
    await store.run_all(calls)
