"""Whether the logins of the vault fit the memory of the store: what `sluice check` asks a store that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.policies import Policies
from sessions.profiles.summary import look, probe_of
from sessions.registry import Registry
from sluice.console.actions.vault_status import vault_status
from sluice.console.messages.vault import memory
from sluice.console.status import StoreStatus
from sluice.process.addresses import store_url
from sluice.store.client import Store, StoreAway, StoreRefused
from sluice.store.embedded import EmbeddedStoreError
from sluice.store.health import health_of

_TIMEOUT, _TOTAL_TIMEOUT = 1.0, 10.0
"""Seconds for one call, and for all of them."""


async def warnings(policies: Policies) -> Sequence[str]:
    """Empty where no store answers: a file may be checked anywhere."""
    vault = policies.sessions.vault
    if vault is None or vault.place != "store":
        return ()
    try:
        store = Store(store_url(policies), timeout=_TIMEOUT)
    except EmbeddedStoreError:
        return ()
    try:
        async with asyncio.timeout(_TOTAL_TIMEOUT):
            registry = Registry(store, policies.sessions.lease)
            seen = await look(vault, store, registry, probe_of(vault, store))
            health, sessions = await health_of(store), await registry.summary()
    except (StoreAway, StoreRefused, TimeoutError):
        return ()
    finally:
        await store.close()
    status = vault_status(vault, seen, (), sessions)
    known = StoreStatus(True, None, memory=health.memory, max_memory=health.max_memory, machine=health.machine)
    return () if status is None else tuple(f"sessions.vault: {sentence}" for sentence in memory(status, known))
