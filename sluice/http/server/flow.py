"""Backpressure on one connection: reading is paused while too much is unread, writing waits for a slow client."""

from __future__ import annotations

import asyncio
from typing import Final

MAX_UNREAD: Final = 64 * 1024
"""Bytes that may wait to be read by whoever answers; beyond it the socket is not read."""


class FlowControl:
    def __init__(self, transport: asyncio.Transport) -> None:
        self.read_paused = False
        self.reading_since: float = 0.0
        """The loop's time when reading was last taken up again, or asked for: nothing is late that was not wanted."""
        self.write_paused = False
        self._transport = transport
        self._writable: asyncio.Event | None = None  # once somebody had to wait

    def pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self.wanted()
            self._transport.resume_reading()

    def wanted(self) -> None:
        """Somebody begins to wait for what the client sends."""
        self.reading_since = asyncio.get_running_loop().time()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    async def drain(self) -> None:
        """Until the client has taken enough, or the connection is lost."""
        if self.write_paused:
            self._writable = self._writable or asyncio.Event()
            await self._writable.wait()
