"""The master that sentinels name: asked anew for each connection, so that a failover is followed by the next call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sluice.store.protocol.address import Address
from sluice.store.protocol.errors import ErrorReply, StoreAway
from sluice.store.protocol.link import Link
from sluice.store.protocol.packing import Command, pack
from sluice.store.protocol.routes import Ask, One, first_answer, moved


class Master:
    """`login`: an address with what all masters have in common; `name`: what the sentinels call the master."""

    def __init__(self, sentinels: Sequence[Address], login: Address, name: str, timeout: float) -> None:
        self._sentinels = [One(address, timeout) for address in sentinels]
        self._login = login
        self._name = name
        self._link = Link(self._located, timeout, master=True)

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        replies = moved(self._link, await self._link.ask(pack(commands), len(commands)))
        for reply in replies:
            if type(reply) is ErrorReply and reply.code == "READONLY":
                raise StoreAway("the master has become a replica")
        return replies

    async def servers(self) -> list[Ask]:
        return [self.ask]

    async def close(self) -> None:
        await self._link.close()
        await asyncio.gather(*(sentinel.close() for sentinel in self._sentinels))

    async def _located(self) -> Address:
        """Where the first sentinel that knows says it is."""
        try:
            return await first_answer(self._told_by(sentinel) for sentinel in self._sentinels)
        except StoreAway as error:
            raise StoreAway(f"no sentinel knows {self._name}: {error}") from None

    async def _told_by(self, sentinel: One) -> Address:
        (reply,) = await sentinel.ask((("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name),))
        if isinstance(reply, ErrorReply) or not reply:
            raise StoreAway(str(reply) if reply else "it watches no master of that name")
        host, port = reply
        return self._login.at(host.decode(), int(port))
