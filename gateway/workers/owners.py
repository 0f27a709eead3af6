"""Who owns which session, as far as this gateway knows."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from gateway.workers.target import Target
from sessions.registry import Owner, Registry, Unknown, Unowned
from sluice.process.cache import Latest
from sluice.store.client import StoreAway, StoreRefused

Found = Owner | Unowned | Unknown
_MAX_BYTES = 32 * 2**20
"""Of some 40,000 sessions."""
_SIZE = 500
"""Bytes of what is known of a session, apart from its name."""
_AWAY_FOR = 1.0
"""Seconds for which a store that did not answer is not waited for again where there is something to go by."""


@dataclass(frozen=True, slots=True)
class _Cached:
    owner: Owner
    target: Target
    until: float


def target_at(owner: Owner) -> Target:
    return Target(owner.worker, owner.url, owner.fence, owner.existing, owner.takes_ids)


class Owners:
    """Who owns a session, remembered up to the end of its lease, or until a change message says otherwise."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache: Latest[str, _Cached] = Latest(_MAX_BYTES)
        self._looking: dict[str, asyncio.Task[Found]] = {}
        self._away_until = 0.0

    @property
    def away(self) -> bool:
        """Whether the store has just not answered."""
        return time.monotonic() < self._away_until

    def target_of(self, session: str) -> Target | None:
        """Whom to ask, without asking the registry; None: that is not known."""
        known = self._cache.get(session)
        return known.target if known is not None and time.monotonic() < known.until else None

    async def find(self, session: str) -> Found:
        """Raises StoreAway or StoreRefused when it has to ask and cannot.

        While the store is away nobody moves a session of an existing worker, whose login lies on that machine: what was
        known of those is believed for longer.
        """
        known, now = self._cache.get(session), time.monotonic()
        if known is not None and now < known.until:
            return known.owner
        of_existing = known is not None and known.owner.existing
        if known is not None and of_existing and self.away:
            return known.owner
        try:
            return await self._shared(session)
        except (StoreAway, StoreRefused):
            self._away_until = time.monotonic() + _AWAY_FOR
            if known is not None and of_existing:
                return known.owner
            raise

    def remember(self, session: str, owner: Owner, since: float) -> None:
        """`since` (`time.monotonic`): when the registry was asked."""
        self._keep(session, _Cached(owner, target_at(owner), since + owner.lease_left))

    def doubt(self, session: str) -> None:
        """Its worker says otherwise, or cannot be reached: the registry is asked again."""
        known = self._cache.get(session)
        if known is not None:
            self._keep(session, _Cached(known.owner, known.target, 0.0))
        self._looking.pop(session, None)

    def forget(self, session: str) -> None:
        """Also what the registry is being asked for right now: its answer may be older than what is known by now."""
        self._cache.drop(session)
        self._looking.pop(session, None)

    def forget_all(self) -> None:
        """Change messages may have been missed."""
        self._cache.clear()
        self._looking.clear()

    def _keep(self, session: str, known: _Cached) -> None:
        self._cache.keep(session, known, session.__sizeof__() + len(known.owner.url) + _SIZE)

    async def _shared(self, session: str) -> Found:
        """One question for all who ask at once."""
        looking = self._looking.get(session)
        if looking is None:
            looking = self._looking[session] = asyncio.create_task(self._look(session))
            looking.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(looking)

    async def _look(self, session: str) -> Found:
        began, me = time.monotonic(), asyncio.current_task()
        try:
            found = await self._registry.owner_of(session)
            if self._looking.get(session) is me:
                if isinstance(found, Owner):
                    self.remember(session, found, began)
                else:
                    self._cache.drop(session)
            return found
        finally:
            if self._looking.get(session) is me:
                del self._looking[session]
