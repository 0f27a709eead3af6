"""Opening a connection: to which address of a name, and to none that must not be connected to.

A name is resolved anew for each connection, so a change of its addresses counts from the next connection on. Where it
has several, one that does not answer holds up nobody for long (RFC 8305, "happy eyeballs"): after a quarter of a
second, or as soon as it fails, the next is tried beside it, IPv6 and IPv4 in turn; the first that answers is taken.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from sluice.http.client.origin import Origin
from sluice.http.errors import AddressRefused

NEXT_AFTER = 0.25
"""Seconds after which the next address is tried, too (RFC 8305 section 5)."""
MAX_ADDRESSES = 8
"""Of one name that are tried."""

Refuse = Callable[[str], str | None]
"""What kind of address it is, if we must not connect to it."""
Found = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]
"""As `getaddrinfo` tells it."""


async def connect(
    make: Callable[[], asyncio.Protocol], origin: Origin, tls: ssl.SSLContext | None, refuse: Refuse | None = None
) -> None:
    """Like `create_connection`, to the first address that is not refused and that answers, or to the unix socket.

    What was looked at is what is connected to: the name is not asked a second time. It takes as long as it takes: bound
    it. Raises AddressRefused or OSError.
    """
    loop = asyncio.get_running_loop()
    name = origin.host if tls else None
    if origin.socket:
        await loop.create_unix_connection(make, origin.socket, ssl=tls, server_hostname=name)
    elif refuse is None and _is_address(origin.host):
        await loop.create_connection(make, origin.host, origin.port, ssl=tls, server_hostname=name)
    else:
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        allowed = _allowed(found, origin, refuse)
        if len(allowed) == 1:
            address = str(allowed[0][4][0])
            await loop.create_connection(make, address, origin.port, ssl=tls, server_hostname=name)
        else:
            await _connected(make, await _first_to_answer(loop, _in_turn(allowed)), tls, name)


def _is_address(host: str) -> bool:
    """So that nothing has to be asked: names have letters."""
    return ":" in host or host.replace(".", "").isdigit()


def _allowed(found: Sequence[Found], origin: Origin, refuse: Refuse | None) -> Sequence[Found]:
    """One at least. Raises AddressRefused, or OSError where the name has none."""
    if not found:
        raise OSError(f"{origin.host} has no address")
    if refuse is None:
        return found
    kinds = [(one, refuse(str(one[4][0]))) for one in found]
    allowed = [one for one, kind in kinds if kind is None]
    if not allowed:
        one, kind = kinds[-1]
        raise AddressRefused(f"no connection to {origin}: {one[4][0]} is not a public address ({kind})")
    return allowed


def _in_turn(found: Sequence[Found]) -> list[Found]:
    """The families in turn (RFC 8305 section 4), that of the first one first."""
    first = [one for one in found if one[0] == found[0][0]]
    others = [one for one in found if one[0] != found[0][0]]
    turns = itertools.zip_longest(first, others)
    return [one for pair in turns for one in pair if one is not None][:MAX_ADDRESSES]


async def _first_to_answer(loop: asyncio.AbstractEventLoop, addresses: list[Found]) -> socket.socket:
    """Raises the OSError of the last one where none does."""
    trying: set[asyncio.Task[socket.socket]] = set()
    failed: BaseException | None = None
    try:
        while addresses or trying:
            if addresses:
                trying.add(asyncio.ensure_future(_open(loop, addresses.pop(0))))
            wait = NEXT_AFTER if addresses else None
            done, _ = await asyncio.wait(trying, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                trying.discard(task)
                failed = task.exception()
                if failed is None:
                    return task.result()
        assert failed is not None
        raise failed
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_close_unused)


async def _open(loop: asyncio.AbstractEventLoop, found: Found) -> socket.socket:
    family, kind, protocol, _, address = found
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)
        await loop.sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _close_unused(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connected(
    make: Callable[[], asyncio.Protocol], made: socket.socket, tls: ssl.SSLContext | None, name: str | None
) -> None:
    try:
        await asyncio.get_running_loop().create_connection(make, sock=made, ssl=tls, server_hostname=name)
    except BaseException:
        made.close()
        raise
