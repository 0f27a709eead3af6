"""What a worker may rely on: until when its lease stands, by a clock that goes on while the machine is suspended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sluice.process.boottime import boottime


class Lease:
    """`lapsed` is called when it ends without having been renewed; after a pause of the process, a little later."""

    def __init__(self, lapsed: Callable[[], None]) -> None:
        self._lapsed = lapsed
        self._until = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def stands(self) -> bool:
        """True even when the process was frozen, or the machine suspended, meanwhile."""
        return boottime() < self._until

    @property
    def until(self) -> float:
        """A moment of `boottime`; 0: there is none."""
        return self._until

    def renew(self, until: float) -> None:
        """`until`: a moment of `boottime`."""
        self.end()
        self._until = until
        self._alarm = asyncio.get_running_loop().call_later(until - boottime(), self._lapsed)

    def end(self) -> None:
        self._until = 0.0
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
