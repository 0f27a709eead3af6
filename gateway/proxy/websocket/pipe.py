"""Passes messages between a client and an upstream, and the end of each side to the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed

from gateway.proxy.websocket import times
from gateway.proxy.websocket.client_side import ClientSide
from gateway.proxy.websocket.connection import Connection
from gateway.proxy.websocket.end import (
    EMPTY,
    GOING_AWAY,
    INTERNAL_ERROR,
    VANISHED,
    End,
    Message,
    client_end,
    upstream_end,
)
from gateway.proxy.websocket.tasks import ending


@dataclass(frozen=True, slots=True)
class Pipe:
    """Passes messages both ways until one side ends it. `idle`: how many seconds one may wait to be taken."""

    connection: Connection
    client: ClientSide
    idle: float

    async def run(self, first: Awaitable[Message]) -> None:
        """`first`: the client's first message, already awaited by others."""
        end = await self._passing(first)
        self.client.entry.code, self.client.entry.ended_by = end.code, end.by
        code = None if end.code == EMPTY else end.code
        async with asyncio.TaskGroup() as both:
            if end.by != "upstream":
                both.create_task(self.connection.close_with(GOING_AWAY if code == VANISHED else code, end.reason))
            if end.by != "client":
                both.create_task(self._close_client(INTERNAL_ERROR if code == VANISHED else code, end.reason))

    async def _passing(self, first: Awaitable[Message]) -> End:
        async with (
            ending(self._from_client(first)) as from_client,
            ending(self._from_upstream()) as from_upstream,
        ):
            await asyncio.wait({from_client, from_upstream}, return_when=asyncio.FIRST_COMPLETED)
            if not from_client.done():
                end = await from_upstream
                if end is not None:
                    return end
                await asyncio.wait({from_client}, timeout=times.CLOSED_WITHIN)
            return from_client.result() if from_client.done() else End("client", VANISHED)

    async def _from_client(self, first: Awaitable[Message]) -> End:
        """The client's messages, and its end."""
        message = await first
        while message["type"] != "websocket.disconnect":
            text = message.get("text")
            # When the upstream is gone, what it said before is still given to the client: `_from_upstream` ends this.
            with contextlib.suppress(ConnectionClosed):
                content = message["bytes"] if text is None else text
                try:
                    async with asyncio.timeout(self.idle):
                        await self.connection.send(content)
                except TimeoutError:
                    return End("gateway", INTERNAL_ERROR, "the upstream takes no messages")
                self.client.entry.came(content)
            message = await self.client.receive()
        return client_end(message)

    async def _from_upstream(self) -> End | None:
        """The upstream's messages, and its end. None when the client is gone, which `_from_client` knows more about."""
        while True:
            try:
                message = await self.connection.next_message()
            except ConnectionClosed as closed:
                return self.connection.ended_by_us or upstream_end(closed)
            kind = "text" if isinstance(message, str) else "bytes"
            try:
                async with asyncio.timeout(self.idle):
                    await self.client.send({"type": "websocket.send", kind: message})
            except TimeoutError:
                return End("gateway", GOING_AWAY, "the client takes no messages")
            except (OSError, RuntimeError):  # RuntimeError: uvicorn itself has closed it
                return None
            self.client.entry.went(message)

    async def _close_client(self, code: int | None, reason: str) -> None:
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(times.CLOSED_WITHIN):
                try:
                    # None, which ASGI does not know, is what uvicorn closes without a code for.
                    await self.client.send({"type": "websocket.close", "code": code, "reason": reason})
                except TypeError:  # what hypercorn raises for it
                    await self.client.send({"type": "websocket.close", "reason": reason})
