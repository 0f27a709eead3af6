"""Brings what this process has counted to the rings in the store, once in each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sluice.history import charted
from sluice.history.charted import Totals
from sluice.history.rings import STEP, Noted, Value, note, noted
from sluice.process.boottime import boottime
from sluice.process.loops import Stop
from sluice.store.client import Call, Store, StoreAway, StoreRefused

_MAX_PARTS = 60
"""That wait for the store, ten minutes of them. What is counted beyond them is one part."""
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class _Part:
    number: int
    at: float
    """The middle of the time in which it was counted, by `boottime`."""
    values: Sequence[Value]


class Recorder:
    """`process`: its name; no two that run have the same.

    `levels`: what this process knows of how things stand. `look`: the same of what only the store knows; it is called
    in one process for all, and may raise StoreAway or StoreRefused.
    """

    def __init__(
        self,
        store: Store,
        process: str,
        levels: Callable[[], Sequence[Value]] = tuple,
        look: Callable[[], Awaitable[Sequence[Value]]] | None = None,
    ) -> None:
        self._store = store
        self._process = process
        self._levels = levels
        self._look = look
        self._number = 0
        self._counted: Totals = charted.totals()
        self._counted_at = boottime()
        self._parts: deque[_Part] = deque()

    async def run(self, stop: Stop) -> None:
        """Until stopped; then what was counted since goes, too. While the store is away, what was counted waits."""
        wait = STEP
        while await stop.sleep(wait):
            wait = await self.run_once()
        await self.run_once()

    async def run_once(self) -> float:
        """Seconds until it is time for the next run."""
        self._count()
        try:
            answer = await self._send(can_look=self._look is not None)
            if answer.looks and self._look is not None:
                self._part(boottime(), await self._look())
                answer = await self._send(can_look=False)
        except (StoreAway, StoreRefused):
            return STEP
        return answer.next_step

    def _count(self) -> None:
        if len(self._parts) >= _MAX_PARTS:
            return
        totals, now = charted.totals(), boottime()
        grown = charted.grown(self._counted, totals)
        values = [*(Value("sum", series, n) for series, n in grown.items()), *self._levels()]
        self._part((self._counted_at + now) / 2, values)
        self._counted, self._counted_at = totals, now

    def _part(self, at: float, values: Sequence[Value]) -> None:
        self._number += 1
        self._parts.append(_Part(self._number, at, values))

    async def _send(self, *, can_look: bool) -> Noted:
        """Nothing is forgotten before the store has said that it has it; what it has had already it does not add."""
        answer = Noted(STEP, looks=False)
        while self._parts:
            parts = [self._parts[i] for i in range(min(_AT_ONCE, len(self._parts)))]
            answers = await self._store.run_all([self._call(part, can_look=can_look) for part in parts])
            for _ in parts:
                self._parts.popleft()
            answer = noted(answers[-1])
        return answer

    def _call(self, part: _Part, *, can_look: bool) -> Call:
        age, is_last = boottime() - part.at, part is self._parts[-1]
        return note(self._process, part.number, age, part.values, can_look=can_look and is_last)
