"""Which relay processes are alive: what `readyz` looks at, so that nobody waits for a relay that is not there.

Owns the key `sl:relays`: a sorted set of process names by the moment (ms, the store's clock) they are given up.
"""

from __future__ import annotations

from sluice.store.client import Store, StoreAway, StoreRefused, load_script

EVERY = 1.0
STUCK = 10.0
"""Seconds without a turn of one of its loops after which a process says no more that it is alive."""
_GIVEN_UP = 5.0
_KEY = "sl:relays"
_PRESENT = load_script("relay", "present")


async def report(store: Store, name: str) -> None:
    """Says that this process is alive; a store that is away is told the next time."""
    try:
        await store.run(_PRESENT, [_KEY], [name, int(_GIVEN_UP * 1000)])
    except (StoreAway, StoreRefused):
        return


async def alive(store: Store) -> int:
    """How many relay processes have reported lately. Raises StoreAway or StoreRefused."""
    count: int = await store.run(_PRESENT, [_KEY], ["", 0])
    return count
