"""Whether a client takes what is written for it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable

_LOOKS = 8
"""So often within the time a look is taken whether the client has taken anything."""
_RESET = struct.pack("ii", 1, 0)
_NO_RESET = struct.pack("ii", 0, 0)


class SendClock:
    """Runs while bytes wait that the kernel does not take, and calls `expired` when the client has taken none of them
    for `within` seconds. It may be an eighth of that late, twice."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        within: float,
        expired: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._every = within / _LOOKS
        self._expired = expired
        self._running = False
        self._unsent = sys.maxsize
        self._in_vain = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._running = True
        self._unsent, self._in_vain = sys.maxsize, 0
        if self._timer is None:
            self._timer = self._loop.call_later(self._every, self._look)

    def stop(self) -> None:
        """The timer goes on, as it is likely to be started again soon."""
        self._running = False

    def close(self) -> None:
        """It is needed no more, and lets go of whom it would call."""
        self._running = False
        self._expired = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._running:
            return
        before, self._unsent = self._unsent, unsent(self._transport)
        self._in_vain = 0 if self._unsent < before else self._in_vain + 1
        if self._in_vain >= _LOOKS:
            self._running = False
            self._expired()
        else:
            self._timer = self._loop.call_later(self._every, self._look)


def unsent(transport: asyncio.Transport) -> int:
    """Bytes that were written and that the client's machine has not confirmed; without those in our kernel where it
    does not tell. nginx sees only whether the kernel takes any, which may be once in megabytes."""
    wire = transport.get_extra_info("socket")
    if wire is None:
        return transport.get_write_buffer_size()
    queued = 0
    with contextlib.suppress(OSError, ValueError):
        queued = int.from_bytes(fcntl.ioctl(wire.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return transport.get_write_buffer_size() + queued


def reset_when_closed(transport: asyncio.Transport, reset: bool) -> None:
    """Whether closing it resets the connection, and drops what our kernel still has for the client."""
    wire = transport.get_extra_info("socket")
    if wire is not None and wire.family != getattr(socket, "AF_UNIX", None):
        with contextlib.suppress(OSError):
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if reset else _NO_RESET)


def _nothing() -> None:
    """Is called in place of who is gone."""
