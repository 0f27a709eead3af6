"""When each existing worker last got the list of its own sessions. Owns `sl:{sessions}:divided`.

By it `status` knows of workers that were started and did not ask us, and so start the sessions of all of them.
"""

from __future__ import annotations

from sluice.store.client import Store

_KEY = "sl:{sessions}:divided"
KEY_PATTERNS = (_KEY,)


async def note(store: Store, worker: str, now: float) -> None:
    """`now`: unix seconds. Raises StoreAway or StoreRefused."""
    await store.commands(("HSET", _KEY, worker, f"{now:.3f}"))


async def moments(store: Store) -> dict[str, float]:
    """Worker → unix seconds. Raises StoreAway or StoreRefused."""
    (found,) = await store.commands(("HGETALL", _KEY))
    return {worker.decode(): float(moment) for worker, moment in found.items()}
