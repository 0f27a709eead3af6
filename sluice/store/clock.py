"""The time of the scripts, for whoever compares it with what they have stored; and a watch over the store's own clock.

The time of the scripts never runs back (`lua/clock.lua`), and each slot has its own. Nobody else asks the store for the
time: its own clock may say another one. Owns the keys `sl:clock:{<slot>}` and `sl:clock_jump`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sluice.observe.log import Log
from sluice.store import metrics
from sluice.store.client import Call, Store, StoreAway, StoreRefused, clock_key, load_script

LOG = Log("store")
EVERY = 1.0
"""Seconds between two looks of a watch; `lua/clock.lua` relies on it."""
TOLERANCE = 1.0
"""Seconds by which the store's clock and ours may go apart from one look to the next: a correction by NTP, no jump."""
_SHOWN_FOR = 3600.0
_SLOWER = 100  # lua/clock.lua: the part of what passes by which the time may run slower
_JUMP = "sl:clock_jump"
KEY_PATTERNS = ("sl:clock:{<slot>}", _JUMP)
_LOOK = load_script("sluice.store", "look", drains=True)
_JUMPED = load_script("sluice.store", "jumped", drains=True)
_UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # the time in which a machine slept counts


def look(key: str, least: int = 0) -> Call:
    """Asks for the time in the slot of this key; `seconds` reads the answer. `least`: so late it is (ms)."""
    return Call(_LOOK, [key], [least])


def seconds(answer: Sequence[int]) -> float:
    """Unix seconds."""
    return answer[0] / 1000


async def times(store: Store, keys: Sequence[str]) -> list[float]:
    """Unix seconds, in the slot of each of these keys, in one round trip. Raises StoreAway or StoreRefused."""
    return [seconds(answer) for answer in await store.run_all([look(key) for key in keys])]


@dataclass(frozen=True, slots=True)
class Look:
    """What the store's own clock said (unix seconds), between two moments of ours (seconds, monotonic)."""

    clock: float
    before: float
    after: float
    time: int = 0
    """Of the scripts (ms)."""

    def time_at(self, moment: float) -> int:
        """The time of the scripts (ms) that it is at least, as it loses no more than a hundredth."""
        return self.time + int((moment - self.after) * 1000 * (1 - 1 / _SLOWER))


def jump(first: Look, second: Look) -> float:
    """Seconds by which the store's clock has jumped between two looks, less than 0: back; 0: it has not."""
    passed = second.clock - first.clock
    least, most = second.before - first.after, second.after - first.before
    if passed < least - TOLERANCE:
        return passed - least
    return passed - most if passed > most + TOLERANCE else 0.0


@dataclass(frozen=True, slots=True)
class Jump:
    seconds: float
    """Less than 0: back."""
    ago: float
    """Seconds since it was noticed."""
    offset: float
    """Seconds by which the time of the scripts is ahead of the store's clock now."""


async def last_jump(store: Store) -> Jump | None:
    """Of the last hour. Raises StoreAway or StoreRefused."""
    (now, offset), note = await store.run_all([look(_JUMP)], [("GET", _JUMP)])
    if note is None:
        return None
    at, by = map(int, note.split())
    return Jump(by / 1000, max(0.0, (now - at) / 1000), offset / 1000)


async def note_jump(store: Store, by: float) -> None:
    """Each process logs it, and one of them counts it. `by`: seconds. Raises StoreAway or StoreRefused."""
    LOG.warning("store.clock_jumped", by_s=round(by, 3))
    if await store.run(_JUMPED, [_JUMP], [round(by * 1000), round(_SHOWN_FOR * 1000)]):
        metrics.clock_jumped(by)


class Watch:
    """Keeps the time of some slots, and notices when the store's clock jumps. `keys` names some key of each slot."""

    def __init__(self, store: Store, keys: Callable[[], Iterable[str]]) -> None:
        self._store = store
        self._keys = keys
        self._looks: dict[str, Look] = {}

    async def run_once(self) -> None:
        """While the store is away nothing is done."""
        try:
            by = await self._look()
            if by:
                await note_jump(self._store, by)
        except (StoreAway, StoreRefused):
            return

    async def _look(self) -> float:
        """The largest jump since the last look; on a cluster each server has its clock."""
        slots = {clock_key(key): key for key in (*self._keys(), _JUMP)}
        before = time.clock_gettime(_UPTIME)
        least = {slot: last.time_at(before) for slot, last in self._looks.items()}
        answers = await self._store.run_all([look(key, least.get(slot, 0)) for slot, key in slots.items()])
        after = time.clock_gettime(_UPTIME)
        looks = {
            slot: Look((now - offset) / 1000, before, after, now)
            for slot, (now, offset) in zip(slots, answers, strict=True)
        }
        jumps = [jump(self._looks[slot], look) for slot, look in looks.items() if slot in self._looks]
        self._looks = looks
        metrics.clock_offset(max(offset for _, offset in answers) / 1000)
        return max(jumps, key=abs, default=0.0)
