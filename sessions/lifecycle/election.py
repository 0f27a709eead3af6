"""Who of several processes does something: one at a time, each so often."""

from __future__ import annotations

from sluice.store.client import Store, load_script

CLEANER, SCALER, WATCHER = (f"sl:{{sessions}}:{name}" for name in ("cleaner", "scaler", "watcher"))
KEY_PATTERNS = (CLEANER, SCALER, WATCHER)
_ELECT = load_script("sessions.lifecycle", "elect", drains=True)


class Election:
    """`name`: of this process; no two that run have the same. `key`: for what.

    Methods raise StoreAway or StoreRefused.
    """

    def __init__(self, store: Store, name: str, key: str = CLEANER) -> None:
        self._store = store
        self._key = key
        self.name = name

    async def win(self, seconds: float) -> bool:
        """It is due, and this process does it, for so long; who does it goes on for longer."""
        return bool(await self._store.run(_ELECT, (self._key,), (self.name, round(seconds * 1000), "", "")))

    async def done(self, due_in: float, outcome: bytes = b"") -> None:
        """It is due again in so many seconds; `outcome`: what came of it, for who asks for it later."""
        await self._store.run(_ELECT, (self._key,), (self.name, round(due_in * 1000), "1", outcome))
