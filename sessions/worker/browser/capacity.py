"""How many sessions a worker offers to run, where the policies do not say: as many browsers as its memory holds.

What one takes is measured; as long as few run it is taken to be what others measure on the real page. What is free is
that of the machine, or of the container or service with the least room, without the tenth from which on a worker is
given no more sessions at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from sessions.load import Memory, memories
from sessions.orphans import FULL_AT
from sessions.policies import PER_WORKER
from sluice.process.descendants import descendants
from sluice.process.memory import proportional_memory

MOST = 200
"""Of one worker: all of its browsers hang on one process of Playwright's."""
_ASSUMED, _WEIGHS = 400 * 2**20, 4
"""Bytes of a browser with the real page, which count as much as so many that are measured."""
_EVERY = 60.0


def each(taken: Sequence[int]) -> float:
    """Bytes that one more session will take; `taken`: what those take that are connected."""
    return (_ASSUMED * _WEIGHS + sum(taken)) / (_WEIGHS + len(taken))


def capacity(found: Sequence[Memory], taken: Sequence[int], opened: int) -> int:
    """The most sessions, those that are `opened` among them: one at least, and never less than run already. Without
    knowing the memory: as many as elsewhere."""
    if not found:
        return PER_WORKER
    room = min(one.free - (1 - FULL_AT) * one.total for one in found)
    return max(1, opened, min(MOST, opened + int(max(0.0, room) // each(taken))))


class WithBrowser(Protocol):
    """A session."""

    state: str

    @property
    def pid(self) -> int:
        """Of its browser; 0: none runs."""
        ...


class Capacity:
    """Of one worker; `sessions`: those that it runs now."""

    def __init__(self, sessions: Callable[[], Iterable[WithBrowser]]) -> None:
        self._sessions = sessions
        self._taken: Sequence[int] = ()

    def __call__(self) -> int:
        """Costs microseconds."""
        return capacity(memories(), self._taken, sum(one.pid != 0 for one in self._sessions()))

    @asynccontextmanager
    async def measuring(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._measure())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _measure(self) -> None:
        while True:
            pids = [one.pid for one in self._sessions() if one.pid and one.state == "connected"]
            self._taken = await asyncio.to_thread(_taken_by, pids)
            await asyncio.sleep(_EVERY)


def _taken_by(pids: Sequence[int]) -> list[int]:
    """Bytes of each browser that is not gone meanwhile."""
    found = (proportional_memory((pid, *descendants(pid))) for pid in pids)
    return [taken for taken in found if taken]
