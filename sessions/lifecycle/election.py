"""Who of several processes cleans: one at a time, each so often."""

from __future__ import annotations

from sluice.store.client import Store, load_script

KEY = "sl:{sessions}:cleaner"
KEY_PATTERNS = (KEY,)
_ELECT = load_script("sessions.lifecycle", "elect", drains=True)


class Election:
    """`name`: of this process; no two that run have the same. Methods raise StoreAway or StoreRefused."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    async def win(self, seconds: float) -> bool:
        """It is due, and this process does it, for so long; who does it goes on for longer."""
        return bool(await self._store.run(_ELECT, (KEY,), (self._name, round(seconds * 1000), "")))

    async def done(self, due_in: float) -> None:
        """It is due again in so many seconds."""
        await self._store.run(_ELECT, (KEY,), (self._name, round(due_in * 1000), "1"))
