"""What is known of a session whose existing worker was started again and restores its logins one after the other.

Until it has begun with a session it answers 404, and until the login is back it lists the session as `qr_scanning`.
"""

from __future__ import annotations

import time

from gateway.workers.last_known import LastKnown, Noted, word_in
from sessions.registry import Registry, SessionRow
from sluice.store.client import StoreAway, StoreRefused

_CONNECTED = "connected"
_LOGGING_IN = frozenset({"qr_scanning", "authenticated"})
_LOGS_IN_WITHIN = 60.0
"""Seconds; as `sessions/lua/observe.lua` has it."""


class Restoring:
    """`restore`: seconds for which a session that its worker does not list counts as being restored."""

    restore = 600.0

    def __init__(self, registry: Registry, last_known: LastKnown) -> None:
        self._registry = registry
        self._last_known = last_known

    async def logging_in(self, session: str, worker: str, body: bytes) -> SessionRow | Noted | None:
        """What is known of a session whose worker was started again and has not restored its login yet. One that needs
        a new code has told it by a webhook. None: the worker's word counts."""
        if word_in(body) not in _LOGGING_IN:
            return None
        try:
            row = await self._registry.wanted(session)
        except (StoreAway, StoreRefused):
            noted = self._last_known.of(session)
            if noted is None or noted.worker != worker or word_in(noted.body) != _CONNECTED:
                return None
            return noted if self._last_known.missing(session, worker) < _LOGS_IN_WITHIN else None
        if row is None or not row.existing or row.state != _CONNECTED or worker not in (row.worker, row.last_owner):
            return None
        return row

    async def had(self, session: str, within: float) -> bool:
        """Whether an existing worker had it, connected, when it was last looked at, or is missing it for less than
        `within` seconds."""
        try:
            row = await self._registry.wanted(session)
        except (StoreAway, StoreRefused):
            return False
        if row is None or not row.existing or row.state != _CONNECTED:
            return False
        return row.missing_since is None or time.time() - row.missing_since < within

    async def missing(self, session: str, worker: str) -> SessionRow | Noted | None:
        """What is known of a session that its worker says it does not run; None: so it is, or it is missing for too
        long."""
        try:
            row = await self._registry.wanted(session)
        except (StoreAway, StoreRefused):
            noted = self._last_known.of(session)
            if noted is None or noted.worker != worker or not noted.body:
                return Noted(worker, b"")  # it may be restored right now, and nobody can say
            return noted if self._last_known.missing(session, worker) < self.restore else None
        if row is None or not row.existing or worker not in (row.worker, row.last_owner):
            self._last_known.forget(session)
            return None
        gone_for = self._last_known.missing(session, worker)
        if row.missing_since is not None:
            gone_for = max(gone_for, time.time() - row.missing_since)
        return row if gone_for < self.restore else None
