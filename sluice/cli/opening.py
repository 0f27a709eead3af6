"""What commands that look into a running Sluice share: its policies, and its store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from gateway.policies import Policies, load
from sluice.cli.errors import CommandError
from sluice.process.addresses import EMBEDDED, store_url
from sluice.store.client import Store, StoreAway

_TIMEOUT = 10.0
Result = TypeVar("Result")


def with_store(path: Path, work: Callable[[Policies, Store], Awaitable[Result]]) -> Result:
    """Runs `work` on the store of this policies file; its secrets need not be at hand. Raises CannotStart."""
    policies = load(path, need_secrets=False)

    async def run() -> Result:
        store = Store(store_url(policies), timeout=_TIMEOUT)
        try:
            return await work(policies, store)
        except StoreAway as error:
            cure = (
                f"is `sluice up` running on {policies.data}?"
                if policies.store.url == EMBEDDED
                else "check store.url in policies.yaml"
            )
            raise CommandError(f"the store does not answer ({error}); {cure}") from None
        finally:
            await store.close()

    return asyncio.run(run())
