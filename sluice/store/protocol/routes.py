"""The ways to all servers of a store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from sluice.store.protocol.address import Address
from sluice.store.protocol.errors import ErrorReply, StoreAway
from sluice.store.protocol.link import Link
from sluice.store.protocol.packing import Command, pack

T = TypeVar("T")
Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Commands, and their replies. Error replies are values. Raises StoreAway."""


class Routes(Protocol):
    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies in order, in one round trip where they are for one server. Error replies are values.

        Raises StoreAway.
        """
        ...

    async def servers(self) -> list[Ask]:
        """How to ask each server that has keys, of which a cluster has several. Raises StoreAway."""
        ...

    async def close(self) -> None: ...


class One:
    """A single server."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._address = address
        self._link = Link(self._located, timeout)

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        return moved(self._link, await self._link.ask(pack(commands), len(commands)))

    async def servers(self) -> list[Ask]:
        return [self.ask]

    async def close(self) -> None:
        await self._link.close()

    async def _located(self) -> Address:
        return self._address


async def first_answer(queried: Iterable[Coroutine[Any, Any, T]]) -> T:
    """Of those asked at once the first that does not raise StoreAway. Raises StoreAway where none is there."""
    asking = [asyncio.ensure_future(each) for each in queried]
    reason = StoreAway("nobody answers")
    try:
        for answered in asyncio.as_completed(asking):
            try:
                return await answered
            except StoreAway as error:
                reason = error
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    raise reason


def moved(link: Link, replies: list[Any]) -> list[Any]:
    """The same replies. A server that has become a replica is left: its name may lead to the new master by now."""
    for reply in replies:
        if type(reply) is ErrorReply and reply.code == "READONLY":
            link.drop("the server has become a replica")
            break
    return replies
