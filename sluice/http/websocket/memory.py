"""What the messages of all WebSockets take, so that many large ones at once do not fill the memory.

A few compressed KiB become a message of MiB, and it is kept until the other side has taken it. Where all of them
together have more than the limit, connections whose messages are large wait in line; the first in line goes on in any
case, so that somebody always does. Who gets no further meanwhile, because nobody sends or takes the rest, is cut off.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

FREE = 64 * 1024
"""Bytes of messages of one direction of a connection that never wait."""
FURTHER_WITHIN = 10.0
"""Seconds in which a large message has to get further while others wait."""
_COPIES = 2
"""A message that is passed on is there as it came, and as it goes out."""


class Memory:
    """Of one event loop. `limit` in bytes; whoever opens a connection says what it is from then on."""

    def __init__(self) -> None:
        self.limit = 0
        self.used = 0
        self.line: dict[Held, None] = {}

    @property
    def is_full(self) -> bool:
        return self.used > self.limit

    def serve(self) -> None:
        """Who waits is to look again."""
        if self.is_full:
            for first in self.line:
                first.go_on()
                return
        waiting, self.line = self.line, {}
        for held in waiting:
            held.go_on()


class Held:
    """What one direction of a connection has of it. `go_on` is called when more may come, `cut` when it got no
    further."""

    def __init__(self, limit: int, go_on: Callable[[], None], cut: Callable[[], None]) -> None:
        self.go_on = go_on
        self._cut = cut
        self._loop = asyncio.get_running_loop()
        self._memory = _memory_of(self._loop)
        self._memory.limit = limit
        self._size = 0
        self._got_further = False
        self._timer: asyncio.TimerHandle | None = None

    def add(self, size: int) -> None:
        """Some bytes of a message have come."""
        self._size += size
        self._memory.used += size * _COPIES
        self._got_further = True
        if self._size > FREE and self._timer is None:
            self._timer = self._loop.call_later(FURTHER_WITHIN, self._look)

    def give_back(self, size: int) -> None:
        """They have been passed on; after the end there is nothing of it left to give back."""
        memory, size = self._memory, min(size, self._size)
        self._size -= size
        self._got_further = True
        memory.used -= size * _COPIES
        if memory.line:
            if self._size <= FREE:
                memory.line.pop(self, None)
            memory.serve()

    def may_go_on(self) -> bool:
        """Whether more may come. If not, `go_on` is called when it may."""
        memory = self._memory
        if self._size <= FREE or not memory.is_full:
            return True
        memory.line[self] = None
        return next(iter(memory.line)) is self

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.give_back(self._size)
        self.go_on = self._cut = _nothing

    def _look(self) -> None:
        self._timer = None
        if self._size <= FREE:
            return
        if self._memory.is_full and not self._got_further:
            self._cut()
            return
        self._got_further = False
        self._timer = self._loop.call_later(FURTHER_WITHIN, self._look)


def _nothing() -> None:
    """Is called in place of who is gone."""


_memories: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Memory] = weakref.WeakKeyDictionary()


def _memory_of(loop: asyncio.AbstractEventLoop) -> Memory:
    memory = _memories.get(loop)
    if memory is None:
        memory = _memories[loop] = Memory()
    return memory
