"""Who owns which session, as far as this gateway knows."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass

from sessions.registry import Owner, Registry, Unknown, Unowned

_MAX_CACHED = 100_000


@dataclass(frozen=True, slots=True)
class _Cached:
    owner: Owner
    until: float


class Owners:
    """Who owns a session, remembered up to the end of its lease."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache: OrderedDict[str, _Cached] = OrderedDict()

    async def find(self, session: str) -> Owner | Unowned | Unknown:
        """Raises StoreAway or StoreRefused when it has to ask and cannot."""
        known = self._cache.get(session)
        if known is not None and time.monotonic() < known.until:
            return known.owner
        found = await self._registry.owner_of(session)
        if isinstance(found, Owner):
            self.remember(session, found)
        else:
            self.forget(session)
        return found

    def remember(self, session: str, owner: Owner) -> None:
        self._cache[session] = _Cached(owner, time.monotonic() + owner.lease_left)
        self._cache.move_to_end(session)
        if len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)

    def forget(self, session: str) -> None:
        self._cache.pop(session, None)
