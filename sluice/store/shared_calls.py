"""Many callers, one round trip.

While a call to the store is under way, what comes in meanwhile waits and goes together in the next one. Nothing is
delayed when little is going on (the first caller goes at once), and under load the number of round trips falls with
the load instead of growing with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sluice.store.protocol.errors import Full, StoreAway

Item = TypeVar("Item")
Result = TypeVar("Result")


class SharedCalls(Generic[Item, Result]):
    """Turns `perform(items) -> results` (same order) into `ask(item) -> result`.

    At most `size` items go in one call, one call is in flight, `waiting` is the most that may wait for theirs.
    """

    def __init__(
        self, perform: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, size: int, waiting: int
    ) -> None:
        self._perform = perform
        self._size = size
        self._most = waiting
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Result:
        """Raises Full, or whatever `perform` raised for the call that this item was in; StoreAway also when a call
        raised it while this item waited for its own."""
        if len(self._waiting) >= self._most:
            raise Full
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
                batch = [(item, future) for item, future in batch if not future.cancelled()]
                if batch:
                    await self._one_call(batch)
        finally:
            self._sender = None

    async def _one_call(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._perform([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - it is handed to every caller of this batch
            if isinstance(error, StoreAway):  # those behind would wait in vain, or overtake who asks again
                batch = [*batch, *self._waiting]
                self._waiting.clear()
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
