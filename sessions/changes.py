"""Who has a session changes: every process that remembers owners hears of it at once.

The scripts add each change to a stream of about a thousand; each process reads it on a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sessions.scripts import CHANGES_KEY
from sluice.observe.log import Log
from sluice.process.loops import Stop
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("sessions.changes")
_BLOCK_MS = 1000
_TIMEOUT = 3.0
_PAUSE = 0.5
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Change:
    """`worker` has the session now, under `fence`, and `before` had it; empty: nobody.

    Where both are the same worker, it is to stop it.
    """

    session: str
    worker: str
    fence: int
    before: str


@dataclass(frozen=True, slots=True)
class Everything:
    """Changes may have been missed: whatever is remembered may be wrong."""


Callback = Callable[[Change | Everything], None]


class Changes:
    """Tells its subscribers of each change, about as soon as it is made. A callback must not raise, nor take long."""

    def __init__(self, store: Store) -> None:
        self._store = Store(store.url, _TIMEOUT)
        self._callbacks: list[Callback] = []
        self._last = b"0-0"
        self._number: int | None = None

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """From now on; what is returned ends it."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def run(self, stop: Stop) -> None:
        """Until stopped. While the store is away it is asked again, and when it is back everything has changed."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_until(stop))
                await stop.wait()
                await self._store.close()
        finally:
            await self._store.close()  # what was being opened meanwhile

    async def _read_until(self, stop: Stop) -> None:
        away = False
        while not stop.requested:
            try:
                await self._begin()
                if away:
                    LOG.info("changes.back")
                away = False
                while not stop.requested:
                    await self._read()
            except (StoreAway, StoreRefused) as error:
                if not away and not stop.requested:
                    LOG.warning("changes.away", reason=str(error))
                away = True
                await stop.sleep(_PAUSE)

    async def _begin(self) -> None:
        """Behind the last change that there is; what came before, nobody was told of."""
        (newest,) = await self._store.commands(("XREVRANGE", CHANGES_KEY, "+", "-", "COUNT", 1))
        self._last, self._number = b"0-0", None
        for place, fields in newest:
            self._last, self._number = place, _number(fields)
        self._tell(Everything())

    async def _read(self) -> None:
        options = ("COUNT", _AT_ONCE, "BLOCK", _BLOCK_MS, "STREAMS", CHANGES_KEY, self._last)
        (answer,) = await self._store.commands(("XREAD", *options))
        for _, entries in answer or ():
            for place, fields in entries:
                number = _number(fields)
                if self._number is not None and number != self._number + 1:
                    self._tell(Everything())
                self._last, self._number = place, number
                self._tell(_change(fields))

    def _tell(self, what: Change | Everything) -> None:
        for callback in tuple(self._callbacks):
            callback(what)


def _number(fields: Sequence[bytes]) -> int:
    return int(fields[1])


def _change(fields: Sequence[bytes]) -> Change:
    """Of announce in prelude.lua."""
    _, _, _, session, _, worker, _, fence, _, before = fields
    return Change(session.decode(), worker.decode(), int(fence), before.decode())
