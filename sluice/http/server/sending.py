"""Whether a client takes what is written for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Callable
from typing import Final

_LOOKS: Final = 8
"""So often within the time a look is taken whether the client has taken anything."""
_TCP_INFO, _ACKED_AT = 11, 120
"""linux/tcp.h: `tcpi_bytes_acked` in `struct tcp_info`."""
_RESET: Final = struct.pack("ii", 1, 0)
_NO_RESET: Final = struct.pack("ii", 0, 0)


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
        self.running = False
        """Something waits for the client, as far as was looked."""
        self._taken: int | None = None
        self._in_vain = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self.running = True
        self._taken, self._in_vain = None, 0
        if self._timer is None:
            self._timer = self._loop.call_later(self._every, self._look)

    def stop(self) -> None:
        """The timer goes on, as it is likely to be started again soon."""
        self.running = False

    def close(self) -> None:
        """It is needed no more, and lets go of whom it would call."""
        self.running = False
        self._expired = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self.running:
            return
        if not self._transport.get_write_buffer_size():
            self.running = False
            return
        before, self._taken = self._taken, taken(self._transport)
        self._in_vain = 0 if before is None or self._taken > before else self._in_vain + 1
        if self._in_vain >= _LOOKS:
            self.running = False
            self._expired()
        else:
            self._timer = self._loop.call_later(self._every, self._look)


def taken(transport: asyncio.Transport) -> int:
    """A number that grows as the client's machine confirms bytes, where our kernel tells; else as our kernel takes
    them. nginx only sees the latter, which for a slow client may be megabytes apart."""
    wire = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        info: bytes = wire.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _ACKED_AT + 8)
        if len(info) == _ACKED_AT + 8:
            return int.from_bytes(info[_ACKED_AT:], sys.byteorder)
    return -transport.get_write_buffer_size()


def reset_when_closed(transport: asyncio.Transport, reset: bool) -> None:
    """Whether closing it resets the connection, and drops what our kernel still has for the client."""
    wire = transport.get_extra_info("socket")
    if wire is not None and wire.family != getattr(socket, "AF_UNIX", None):
        with contextlib.suppress(OSError):
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET if reset else _NO_RESET)


def _nothing() -> None:
    """Is called in place of who is gone."""
