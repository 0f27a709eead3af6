"""One socket to the store, shared by all callers: what they ask goes out at once, what comes back is theirs in order.

    opening ──opened──> greeting ──ready──> (in use) ──late, lost, closed──> lost

A caller that gives up leaves its place: its reply is dropped when it comes, so that nobody ever gets another one's. A
reply that is late by the timeout ends the wire, and all who wait on it are told that the store is away.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from hiredis import ProtocolError, Reader

from sluice.store.protocol.errors import ErrorReply, StoreAway

MAX_CALLS = 10_000
MAX_BYTES = 64 * 1024 * 1024
"""Asked and not yet answered, on one wire. A single larger one is let through when nothing else waits."""

_SECOND_LOOK = 0.002
_MORE = object()


class Exchange:
    """One or more commands that were asked together, and the replies that have come so far."""

    __slots__ = ("due", "future", "missing", "replies", "size")

    def __init__(self, future: asyncio.Future[list[Any]], missing: int, size: int, due: float) -> None:
        self.future = future
        self.missing = missing
        self.size = size
        self.due = due
        self.replies: list[Any] = []


class Wire:
    """Made without a socket: what is asked before `ready` waits for it. `timeout` in seconds, of each exchange."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self.lost = False
        self.opening: asyncio.Task[None] | None = None
        """Cancelled when the wire is lost meanwhile."""
        self.late = f"the store did not answer within {timeout:g} s"
        """What those who have waited too long are told; whoever opens the wire may know better."""
        self._loop = loop
        self._timeout = timeout
        self._reader = Reader(protocolError=ProtocolError, replyError=ErrorReply, notEnoughData=_MORE)
        self._transport: asyncio.Transport | None = None
        self._ready = False
        self._held: deque[tuple[Exchange, bytes]] = deque()
        self._sent: deque[Exchange] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._gone = loop.create_future()

    def ask(self, packed: bytes, count: int) -> asyncio.Future[list[Any]]:
        """The replies to `count` commands. Raises StoreAway, now or from the future; error replies are values."""
        size = len(packed)
        if self.lost:
            raise StoreAway("the connection to the store is closed")
        if self._bytes and (self._bytes + size > MAX_BYTES or len(self._sent) + len(self._held) >= MAX_CALLS):
            raise StoreAway("too much is under way to the store")
        due = self._loop.time() + self._timeout
        exchange = Exchange(self._loop.create_future(), count, size, due)
        self._bytes += size
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        if self._ready:
            self._send(exchange, packed)
        else:
            self._held.append((exchange, packed))
        return exchange.future

    async def greet(self, packed: bytes, count: int) -> list[Any]:
        """Asks ahead of all others. For whoever opens the wire, before `ready`; the others' timeout is its own."""
        exchange = Exchange(self._loop.create_future(), count, 0, 0.0)
        self._send(exchange, packed)
        return await exchange.future

    def ready(self) -> None:
        """Sends what has waited."""
        self.opening = None
        self._ready = not self.lost
        self.late = f"the store did not answer within {self._timeout:g} s"
        while self._held:
            exchange, packed = self._held.popleft()
            if exchange.future.done():
                self._bytes -= exchange.size
            else:
                self._send(exchange, packed)

    def lose(self, why: str) -> None:
        """Everybody who waits gets StoreAway with these words, and the socket is cut."""
        if self.lost:
            return
        self.lost = True
        self._ready = False
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is None or self.opening is not None:
            self._gone.set_result(None)  # uvloop never tells of a socket whose opening was cancelled
        if self.opening is not None:
            self.opening.cancel()
        for exchange in (*self._sent, *(exchange for exchange, _ in self._held)):
            if not exchange.future.done():
                exchange.future.set_exception(StoreAway(why))
        self._sent.clear()
        self._held.clear()
        if self._transport is not None:
            self._transport.abort()

    async def closed(self) -> None:
        """Returns when the socket is gone, after `lose`."""
        await asyncio.shield(self._gone)

    def _send(self, exchange: Exchange, packed: bytes) -> None:
        self._sent.append(exchange)
        cast(asyncio.Transport, self._transport).write(packed)

    def _look(self, *, again: bool = False) -> None:
        """The one timer: whoever has waited longest is first."""
        oldest = self._sent[0] if self._sent and self._ready else self._held[0][0] if self._held else None
        now = self._loop.time()
        if oldest is None:
            self._timer = None
        elif oldest.due > now:
            self._timer = self._loop.call_at(oldest.due, self._look)
        elif again:
            self.lose(self.late)
        else:
            # If this process was late itself, the answer has come and only waits to be read.
            self._timer = self._loop.call_later(_SECOND_LOOK, lambda: self._look(again=True))

    # What the transport tells us.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.lost:
            self._transport.abort()  # all who wanted it have given up meanwhile

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not _MORE:
                if not self._sent:
                    self.lose("the store said something that nobody had asked for")
                    return
                exchange = self._sent[0]
                exchange.replies.append(reply)
                exchange.missing -= 1
                if not exchange.missing:
                    self._sent.popleft()
                    self._bytes -= exchange.size
                    if not exchange.future.done():
                        exchange.future.set_result(exchange.replies)
        except ProtocolError:
            self.lose("what answers there does not speak the protocol of Redis")

    def eof_received(self) -> None:
        """Then the transport closes."""

    def pause_writing(self) -> None:
        """What is under way is bounded by `MAX_BYTES`."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose("the store closed the connection" if exc is None else f"the connection to the store broke: {exc}")
        if not self._gone.done():
            self._gone.set_result(None)
