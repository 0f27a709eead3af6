"""Which relay processes are alive: `readyz` looks at it, so that nobody relies on a relay that is not running.

Owns the key `sl:relays`: a sorted set of process names, by the moment (ms, the store's clock) until which each is
considered alive.
"""

from __future__ import annotations

from sluice.store.client import Store, StoreAway, StoreRefused, load_script

EVERY = 1.0
STUCK = 10.0
"""Seconds without a poll of one of its loops after which a process no longer reports that it is alive."""
_EXPIRES_AFTER = 5.0
_KEY = "sl:relays"
KEY_PATTERNS = (_KEY,)
_PRESENCE = load_script("relay", "presence")


async def report(store: Store, name: str) -> None:
    """Reports that this process is alive. While the store is away nothing is done; the next report will."""
    try:
        await store.run(_PRESENCE, [_KEY], [name, int(_EXPIRES_AFTER * 1000)])
    except (StoreAway, StoreRefused):
        return


async def alive(store: Store) -> int:
    """How many relay processes have reported lately. Raises StoreAway or StoreRefused."""
    count: int = await store.run(_PRESENCE, [_KEY], ["", 0])
    return count
