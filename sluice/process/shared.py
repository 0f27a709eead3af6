"""One answer for all who ask at about the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Made when somebody asks and the last one is older than `seconds`; who asks meanwhile waits for the same.

    What is raised is raised to all of them, and made anew for the next.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._made: asyncio.Task[T] | None = None
        self._stale_at = 0.0

    async def get(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self._made is None or (self._made.done() and time.monotonic() >= self._stale_at):
            self._made = asyncio.create_task(self._make(make))
        return await asyncio.shield(self._made)  # one who leaves takes it from nobody else

    async def _make(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self._stale_at = 0.0
        made = await make()
        self._stale_at = time.monotonic() + self._seconds
        return made
