"""Taking no more connections without resetting any.

A listening socket that is closed resets the connections that the kernel has completed and nobody has accepted. Some
senders repeat what is refused and not what is reset, so the kernel first stops to complete any: a packet filter passes
over the first packet of each new connection. Its sender's kernel sends that again after a second, when the socket is
closed, and is refused, or reaches whoever listens then.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Sequence

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # linux/socket.h
_SYN, _SYN_OR_ACK, _FLAGS_AT = 0x02, 0x12, 13  # RFC 9293 section 3.1
_PROGRAM = (  # linux/filter.h: code, jump if true, jump if false, operand
    (0x30, 0, 0, _FLAGS_AT),  # load the byte
    (0x54, 0, 0, _SYN_OR_ACK),  # and
    (0x15, 0, 1, _SYN),  # jump if it is equal
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # keep
)
_ACCEPTED_WITHIN = 0.1
"""Seconds in which connections that were begun before are completed and accepted."""


def take_again(listening: socket.socket) -> None:
    """Undoes what a predecessor on the same listening socket did before it ended."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it did nothing
            listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


async def take_no_more(sockets: Sequence[socket.socket]) -> None:
    """When it returns, these listening sockets can be closed. Elsewhere than on Linux it does nothing."""
    if sys.platform == "linux":
        for listening in sockets:
            if listening.family != socket.AF_UNIX:  # its file is gone by now, or somebody else listens there, too
                _pass_over_new(listening)
        await asyncio.sleep(_ACCEPTED_WITHIN)


def _pass_over_new(listening: socket.socket) -> None:
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in _PROGRAM))
    with contextlib.suppress(OSError):  # then a few may be reset
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_PROGRAM), ctypes.addressof(program))
        )
