"""Until when all that happened in a session was passed on: owns `sl:{passed:<session>}:until`.

It lies in the store, so that whoever runs the session next looks from there on, on whatever machine and with whatever
generation of its profile. A mark that is too old costs a second look at what the relay knows; one that is too new would
cost messages, so only a worker whose lease stands notes one.
"""

from __future__ import annotations

import asyncio
import time

from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("sessions.browser")
KEY_PATTERNS = ("sl:{passed:<session>}:until",)
KEPT_FOR = 30 * 86400
"""Seconds; WhatsApp ends a device that was away for 14 days."""
_EVERY = 5.0
"""Seconds between two writes of a session's mark: far less than is looked at once more (`incoming.py`)."""


class PassedOn:
    """Of one session."""

    def __init__(self, store: Store, session: str) -> None:
        self._store = store
        self._session = session
        self._key = f"sl:{{passed:{session}}}:until"
        self._noted_at = float("-inf")
        self._writing: asyncio.Task[None] | None = None

    async def until(self) -> float | None:
        """In seconds since 1970; None: nobody has passed anything on. Raises StoreAway, StoreRefused."""
        (found,) = await self._store.commands(("GET", self._key))
        return int(found) / 1000 if found is not None else None

    def note(self) -> float:
        """Now: all that its page has told was accepted. Written in the background, some seconds apart."""
        now = time.time()
        if time.monotonic() - self._noted_at >= _EVERY and (self._writing is None or self._writing.done()):
            self._noted_at = time.monotonic()
            self._writing = asyncio.create_task(self._write(now))
        return now

    async def forget(self) -> None:
        """Its login is gone. Raises StoreAway, StoreRefused."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await self._store.commands(("DEL", self._key))

    async def _write(self, moment: float) -> None:
        try:
            await self._store.commands(("SET", self._key, round(moment * 1000), "EX", KEPT_FOR))
        except (StoreAway, StoreRefused) as error:  # then more is looked at once more
            LOG.warning("session.mark_not_noted", session=self._session, reason=str(error))
