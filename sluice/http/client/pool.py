"""The connections to one origin.

Each open (or opening) socket holds one of `limit` permits, from before it connects until the loop reports it lost. A
freed connection goes to whoever has waited longest, otherwise on top of the idle ones, and the top is taken first:
that keeps a few of them warm, and lets the others grow old and close.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from math import inf
from typing import Final, cast

from sluice.http.client.causes import in_words
from sluice.http.client.connect import Refuse, connect as open_connection
from sluice.http.client.connection import Connection, Home, Wire
from sluice.http.client.origin import Origin
from sluice.http.errors import ConnectFailed, ConnectTimeout, PoolExhausted
from sluice.process import files

_monotonic: Final = time.monotonic
Waiter = asyncio.Future[Wire | None]
"""Comes with a connection to use again, or None: a permit to open one."""


class Pool(Home):
    """Connections to one origin: reused last-in-first-out, at most `limit` open, a bounded wait for a free one.

    In seconds: `connect` for name, TCP and TLS together, `wait` for a free connection, `idle` for how long an unused
    one may still be used again (keep it below the upstream's own keep-alive), `age` from which on one is not used again
    however busy it is, so that a change of the name's addresses is seen. `refuse` says to which addresses of the
    origin's name no connection is made.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        connect: float,
        limit: int = 256,
        wait: float = 1.0,
        idle: float = 50.0,
        age: float = 300.0,
        tls: ssl.SSLContext | None = None,
        refuse: Refuse | None = None,
    ) -> None:
        self.origin = origin
        self._connect_timeout = connect
        self._limit = limit
        self._wait = wait
        self._keep_alive = idle
        self._age = age
        self._tls = (tls or ssl.create_default_context()) if origin.scheme == "https" else None
        self._refuse = refuse
        self._open = 0
        self._idle: list[Wire] = []
        self._waiters: deque[tuple[Waiter, bool]] = deque()
        self._wires: set[Wire] = set()
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    @property
    def open(self) -> int:
        """Connections open or opening."""
        return self._open

    @property
    def idle(self) -> int:
        """Connections that wait to be used again."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Callers that wait for a connection."""
        return len(self._waiters)

    def kept(self) -> Connection | None:
        """One to use again, at once. None: `acquire` one."""
        wire = None if self._closed else self._youngest()
        return None if wire is None else Connection(wire, reused=True)

    async def acquire(self, *, fresh: bool = False, timeout: float = inf) -> Connection:
        """A connection for one exchange; `fresh` for one that nobody has used yet.

        It takes `timeout` seconds at most, and never more than the pool's own `wait` and `connect`. Raises
        ConnectFailed, AddressRefused, ConnectTimeout or PoolExhausted. Use it in a `with`, or see to `abort` yourself.
        """
        if self._closed:
            raise PoolExhausted("the pool is closed")
        if not fresh and (kept := self.kept()) is not None:
            return kept
        end = _monotonic() + timeout
        if self._open < self._limit:
            self._open += 1
        elif (wire := await self._wait_for_connection(fresh, min(self._wait, timeout))) is not None:
            return Connection(wire, reused=True)
        return Connection(await self._connect(end), reused=False)

    def drain(self) -> None:
        """From now on no connection is used twice: the idle ones close now, those in use when their exchange ends."""
        self._keep_alive = 0.0
        for wire in tuple(self._idle):
            wire.abort()

    async def close(self) -> None:
        """Cuts every connection, also those in use, and returns when they are gone. Drain before."""
        self._closed = True
        for waiter, _ in self._waiters:
            if not waiter.done():
                waiter.set_exception(PoolExhausted("the pool is closed"))
        for wire in tuple(self._wires):
            wire.abort("pool closed")
        while self._wires:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def _youngest(self) -> Wire | None:
        while self._idle:
            wire = self._idle[-1]
            if _monotonic() < wire.until:
                self._idle.pop()
                wire.idle = False
                return wire
            wire.abort()
        return None

    async def _wait_for_connection(self, fresh: bool, timeout: float) -> Wire | None:
        if fresh and self._idle:
            self._idle[0].abort()  # its permit comes to us when it is lost
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((waiter, fresh))
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            self._stop_waiting(waiter, fresh)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise PoolExhausted(f"all {self._limit} connections in use for {timeout:g} s") from None

    def _stop_waiting(self, waiter: Waiter, fresh: bool) -> None:
        """Leaves the queue; what was already handed to us goes to the next."""
        with contextlib.suppress(ValueError):
            self._waiters.remove((waiter, fresh))
        if waiter.cancelled() or not waiter.done() or waiter.exception() is not None:
            return
        wire = waiter.result()
        if wire is None:
            self._give_back()
        elif not wire.closed:
            self.freed(wire)

    async def _connect(self, end: float) -> Wire:
        """Opens a connection with the permit that the caller took; from here on the wire holds it."""
        wire, ready = Wire(self), False
        protocol = cast(asyncio.Protocol, wire)
        timeout = min(self._connect_timeout, end - _monotonic())
        try:
            async with asyncio.timeout(timeout):
                await open_connection(lambda: protocol, self.origin, self._tls, self._refuse)
            ready = not self._closed
        except TimeoutError:
            raise ConnectTimeout(f"no connection to {self.origin} within {round(timeout, 2):g} s") from None
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno in files.NO_MORE:
                raise PoolExhausted(f"no connection to {self.origin}: {in_words(error)}") from None
            raise ConnectFailed(f"no connection to {self.origin}: {in_words(error)}") from error
        finally:
            if not ready:
                wire.abort()
                self.lost(wire)  # uvloop never tells of one that was made in the moment it was given up
        if not ready:
            raise PoolExhausted("the pool is closed")
        return wire

    def _give_back(self) -> None:
        self._open -= 1
        while self._waiters and self._open < self._limit:
            waiter, _ = self._waiters.popleft()
            if not waiter.done():
                self._open += 1
                waiter.set_result(None)

    # What the wires tell us.

    def opened(self, wire: Wire) -> None:
        self._wires.add(wire)
        wire.expires = _monotonic() + self._age

    def freed(self, wire: Wire) -> None:
        """An exchange on it ended cleanly."""
        now = _monotonic()
        if self._closed or now >= wire.expires:
            wire.abort()  # its permit goes to whoever waits when it is lost
            return
        while self._waiters:
            waiter, fresh = self._waiters[0]
            if fresh and not waiter.done():
                wire.abort()  # its permit goes to that one when it is lost
                return
            self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(wire)
                return
        wire.until = min(now + self._keep_alive, wire.expires)
        wire.idle = True
        self._idle.append(wire)
        if now >= self._idle[0].until:
            self._idle[0].abort()

    def closing(self, wire: Wire) -> None:
        """It must not be handed out any more, though it still holds its permit."""
        if wire.idle:
            wire.idle = False
            self._idle.remove(wire)

    def lost(self, wire: Wire) -> None:
        """It is gone: its permit is free, once."""
        if not wire.holds_permit:
            return
        wire.holds_permit = False
        self._wires.discard(wire)
        self._give_back()
        if not self._wires and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
