"""The time of the scripts, for whoever compares it with what they have stored.

It never runs back (`lua/clock.lua`), and each slot has its own. Nobody else asks the store for the time: its own clock
may say another one. Owns the keys `sl:clock:{<slot>}`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sluice.store.client import Call, Store, load_script

KEY_PATTERNS = ("sl:clock:{<slot>}",)
_LOOK = load_script("sluice.store", "look", drains=True)


def look(key: str) -> Call:
    """Asks for the time in the slot of this key; `seconds` reads the answer."""
    return Call(_LOOK, [key], [])


def seconds(answer: Sequence[int]) -> float:
    """Unix seconds."""
    return answer[0] / 1000


async def times(store: Store, keys: Sequence[str]) -> list[float]:
    """Unix seconds, in the slot of each of these keys, in one round trip. Raises StoreAway or StoreRefused."""
    return [seconds(answer) for answer in await store.run_all([look(key) for key in keys])]
