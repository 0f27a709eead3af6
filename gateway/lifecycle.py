"""What a gateway does for the life of sessions, beside answering: one phone, cleaning, and telling Laravel."""

from __future__ import annotations

from gateway.ingest.endings import Endings
from gateway.ingest.webhooks import Ingest
from gateway.policies import Policies
from sessions.lifecycle import yielding
from sessions.lifecycle.cleaning import Cleaner, Erase
from sessions.lifecycle.closing import Closing
from sessions.lifecycle.election import Election
from sessions.registry import Registry
from sluice.store.client import Store


class Lifecycle:
    """`name`: of this process; no two that run have the same. Each method is one run of a loop."""

    def __init__(self, registry: Registry, store: Store, name: str) -> None:
        self._registry = registry
        self._endings = Endings(registry)
        self._cleaner = Cleaner(registry, Election(store, name))

    def apply(self, policies: Policies) -> None:
        """What an edit changes."""
        self._registry.keep = policies.sessions.one_phone.keep

    async def tell(self, policies: Policies, ingest: Ingest) -> None:
        await self._endings.run_once(policies, ingest)

    async def let_yield(self, policies: Policies) -> None:
        sessions = policies.sessions
        if sessions.one_phone.enforce and sessions.workers:
            await yielding.run_once(self._registry, Closing(self._registry, sessions.workers))

    async def clean(self, policies: Policies, erase: Erase | None) -> None:
        sessions = policies.sessions
        if sessions.cleanup is not None:
            await self._cleaner.run_once(sessions.cleanup, Closing(self._registry, sessions.workers), erase)
