"""The way to one server: a wire while it lasts, and a new one at the next call when it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from sluice.store.protocol import reasons
from sluice.store.protocol.address import Address
from sluice.store.protocol.errors import ErrorReply, StoreAway
from sluice.store.protocol.packing import Command, pack
from sluice.store.protocol.wire import Wire

Locate = Callable[[], Awaitable[Address]]


class Link:
    """Opens when it is first asked. `timeout` in seconds is the longest any call waits, the opening included.

    `locate` says where to connect, anew each time; it raises StoreAway. With `master`, only one will do.
    """

    def __init__(self, locate: Locate, timeout: float, *, master: bool = False) -> None:
        self._locate = locate
        self._timeout = timeout
        self._master = master
        self._wire: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    def ask(self, packed: bytes, count: int) -> asyncio.Future[list[Any]]:
        """The replies to `count` commands that were packed together. Raises StoreAway, now or from the future.

        Error replies are values: see ErrorReply.
        """
        wire = self._wire
        if wire is None or wire.lost:
            wire = self._anew()
        return wire.ask(packed, count)

    def drop(self, why: str) -> None:
        """Connects anew at the next call. Those who wait now get StoreAway."""
        if self._wire is not None:
            self._wire.lose(why)

    async def close(self) -> None:
        """Those who wait get StoreAway; returns when the socket is gone. Nothing can be asked afterwards."""
        self._closed = True
        if self._wire is not None:
            self._wire.lose("the connection to the store was closed")
            await self._wire.closed()
        if self._opening is not None:
            await asyncio.wait((self._opening,))

    def _anew(self) -> Wire:
        if self._closed:
            raise StoreAway("the connection to the store was closed")
        loop = asyncio.get_running_loop()
        self._wire = wire = Wire(loop, self._timeout)
        self._opening = wire.opening = loop.create_task(self._open(wire))
        return wire

    async def _open(self, wire: Wire) -> None:
        """Ends with the wire ready or lost. There is somebody who waits for it, whose timeout bounds this too."""
        where = "the store"
        try:
            address = await self._locate()
            where = str(address)
            if address.tls is not None:
                wire.late = reasons.of_late_tls(where, self._timeout)
            await address.connect(cast(asyncio.Protocol, wire))
            if (refused := await self._greet(wire, address)) is None:
                wire.ready()
            else:
                self._fail(wire, f"{where} {refused}")
        except StoreAway as error:
            self._fail(wire, str(error))
        except (OSError, UnicodeError) as error:
            self._fail(wire, f"no connection to {where}: {reasons.of_connecting(error)}")
        except BaseException as error:
            self._fail(wire, f"no connection to {where}: {type(error).__name__}")
            raise

    def _fail(self, wire: Wire, why: str) -> None:
        wire.opening = None
        wire.lose(why)

    async def _greet(self, wire: Wire, address: Address) -> str | None:
        """Why this server will not do, or None."""
        greeting: list[Command] = [*address.greeting(), *([("ROLE",)] if self._master else ())]
        if not greeting:
            return None
        for command, reply in zip(greeting, await wire.greet(pack(greeting), len(greeting)), strict=True):
            if isinstance(reply, ErrorReply):
                return f"refused {command[0]!s}: {_masked(reasons.of_login(str(reply)), address.password)}"
            if command[0] == "ROLE" and reply[0] != b"master":
                return "is not the master any more"
        return None


def _masked(text: str, secret: str | None) -> str:
    """A server that knows no AUTH repeats what it was told."""
    return text.replace(secret, "***") if secret else text
