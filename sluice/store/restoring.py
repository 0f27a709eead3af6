"""Whether a backup is just being restored into this store: nothing else may work on it until that has ended.

Whoever restores marks the store first and takes the mark away last, and renews it in between. So a mark that nobody
renews is what a restore that was broken off has left, and only such a store is ever emptied. Owns the key
`sl:restoring`.
"""

from __future__ import annotations

from typing import Literal

from sluice.store.client import Store

KEY = "sl:restoring"
"""When it was renewed last, in ms of the clock of its server."""
KEY_PATTERNS = (KEY,)
RENEWED_EVERY = 2.0
BROKEN_OFF_AFTER = 15.0
"""Seconds without being renewed."""

Begun = Literal["first", "anew", "another"]
"""Nobody had marked it; one that was broken off had; another one is at work."""


class BeingRestored(Exception):
    """The message says what to do."""


async def refuse(store: Store) -> None:
    """Raises BeingRestored where it is; StoreAway or StoreRefused."""
    if await since_renewed(store) is not None:
        raise BeingRestored(
            "a backup is being restored into this store, so nothing else may work on it: wait until `sluice restore` "
            "has ended; where it was broken off, run it again, and it begins anew (docs/backup.md)"
        )


async def since_renewed(store: Store) -> float | None:
    """Seconds; None: there is no mark. Raises StoreAway or StoreRefused."""
    (mark,) = await store.commands(("GET", KEY))
    return None if mark is None else (await _now(store) - int(mark)) / 1000


async def begin(store: Store) -> Begun:
    """Marks it. Of several who do so at once one is not told that it is another's. Raises StoreAway or StoreRefused."""
    now = await _now(store)
    (before,) = await store.commands(("SET", KEY, now, "GET"))
    if before is None:
        return "first"
    return "anew" if now - int(before) >= BROKEN_OFF_AFTER * 1000 else "another"


async def renew(store: Store) -> None:
    """Raises StoreAway or StoreRefused."""
    await store.commands(("SET", KEY, await _now(store)))


async def end(store: Store) -> None:
    """Raises StoreAway or StoreRefused."""
    await store.commands(("DEL", KEY))


async def _now(store: Store) -> int:
    (times,) = await store.commands(("TIME",))
    return int(times[0]) * 1000 + int(times[1]) // 1000
