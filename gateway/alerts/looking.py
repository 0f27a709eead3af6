"""What is wrong: what one gateway sees, with what the gateways of other machines have reported of theirs.

Of its disk, say, only a machine itself knows. Every machine keeps in the store what it alone knows, the one of the
gateway that leads too, so that whoever leads next misses nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.alerts.board import Board, Reading
from gateway.alerts.decide import Found, Seen
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("alerts")
_TIMEOUT = 20.0

See = Callable[[], Awaitable[Seen]]


class Looking:
    """`see` looks at everything, `see_here` at what only this machine knows."""

    def __init__(self, board: Board, see: See, see_here: See) -> None:
        self._board = board
        self._see = see
        self._see_here = see_here
        self._elsewhere: tuple[Found, ...] = ()
        self._is_due = False

    def take(self, reading: Reading | None) -> None:
        """None: the store is away."""
        self._elsewhere = reading.elsewhere if reading else ()
        self._is_due = reading is not None and reading.reports

    async def all(self, *, alone: bool) -> Seen | None:
        """For the gateway that tells; `alone`: while the store is away. None: it took too long."""
        seen = await _within(self._see)
        if seen is None:
            return None
        if alone:
            return replace(seen, here=self._board.machine)
        await self._report(seen)
        return replace(seen, found=(*seen.found, *self._elsewhere))

    async def report(self) -> None:
        """For the gateway that tells, if it is on another machine and has not heard of this one for some seconds."""
        seen = await _within(self._see_here) if self._is_due else None
        if seen is not None:
            await self._report(seen)

    async def _report(self, seen: Seen) -> None:
        with contextlib.suppress(StoreAway, StoreRefused):
            await self._board.report([one for one in seen.found if one.machine])


async def _within(see: See) -> Seen | None:
    try:
        async with asyncio.timeout(_TIMEOUT):
            return await see()
    except TimeoutError:
        LOG.warning("alerts.not_looked", reason=f"what is wrong was not found out within {_TIMEOUT:g}s")
        return None
