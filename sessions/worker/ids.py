"""Which message of WhatsApp a send became: owns `sl:{sent:<session>}:<message>`, for as long as receipts may come.

It is written before the message is sent, so that whoever runs the session later knows it, too.
"""

from __future__ import annotations

import hashlib

from sluice.process.cache import Cache
from sluice.store.client import Store

KEY_PATTERNS = ("sl:{sent:<session>}:<message>",)
KEPT_FOR = 14 * 86400
"""Seconds; a message is read within days, or its receipt tells nobody anything new."""
_KNOWN = 2**20
"""Bytes of those that this worker remembers by itself."""


def derived(given: str) -> str:
    """WhatsApp's id of a message, without its chat: always the same for what a caller gives, so a send is one message,
    whichever worker makes it."""
    return f"3EB0{hashlib.sha256(given.encode()).hexdigest()[:18].upper()}"


class SentIds:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: Cache[tuple[str, str], str] = Cache(_KNOWN)

    async def note(self, session: str, message: str, given: str) -> None:
        """The message that will be sent is called `given` by whoever wants it sent. Raises StoreAway, StoreRefused."""
        await self._store.commands(("SET", _key(session, message), given, "EX", KEPT_FOR))
        self._keep(session, message, given)

    async def given(self, session: str, message: str) -> str | None:
        """What its sender calls it; None: it is WhatsApp's own id that is known. Raises StoreAway, StoreRefused."""
        known = self._known.get((session, message))
        if known is None:
            (found,) = await self._store.commands(("GET", _key(session, message)))
            known = self._keep(session, message, found.decode() if found is not None else "")
        return known or None

    def _keep(self, session: str, message: str, given: str) -> str:
        return self._known.keep((session, message), given, len(session) + len(message) + len(given) + 100)


def _key(session: str, message: str) -> str:
    return f"sl:{{sent:{session}}}:{message}"
