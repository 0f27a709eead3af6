"""The keys of the registry, and how its scripts are run: `sessions/registry.py` owns both."""

from __future__ import annotations

from typing import Any

from sluice.store.client import Arg, Script, Store, load_script

_NAMES = (
    *("records", "fleet", "live", "places", "waiting", "orphans", "room", "room_existing", "loads", "numbers"),
    *("reserved", "forgotten", "history", "fence", "changes", "lost"),
    *("phones", "ended", "rivals", "notices", "idle_phones", "phones_due"),
    *("activity", "faults", "untold", "dropped", "starting"),
)
KEYS = tuple(f"sl:{{sessions}}:{name}" for name in _NAMES)
_EARLIER = ("wanted", "states", "owners", "leases", "observed", "workers", "beats", "held", "counts")
KEYS_OF_EARLIER = (*KEYS, *(f"sl:{{sessions}}:{name}" for name in _EARLIER))
"""With those that an earlier version had."""
CHANGES_KEY = "sl:{sessions}:changes"
GATEWAY = "gateway"
"""Who changes something, where it is no person and no worker."""


def load(name: str, *, adds: bool = False) -> Script:
    """One that `adds` sessions does not run in a store that is full; a lease must not be lost to that."""
    return load_script("sessions", "prelude", name, drains=not adds)


class Scripted:
    """Runs scripts on the keys of the registry. `lease` in seconds."""

    def __init__(self, store: Store, lease: float) -> None:
        self.lease = lease
        self._store = store
        self._lease_ms = round(lease * 1000)

    async def _run(self, script: Script, *args: Arg) -> Any:
        return await self._store.run(script, KEYS, args)
