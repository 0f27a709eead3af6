"""The body of a response: kept as it arrives, until somebody takes it."""

from __future__ import annotations

import asyncio
from typing import Final

from sluice.http.client.chunks import Chunks
from sluice.http.client.deadlines import wake
from sluice.http.client.framing import Ending
from sluice.http.errors import BadFraming

MAX_WAITING: Final = 128 * 1024
"""Bytes of a body that wait unread before the upstream has to."""


class Source:
    """Where a response comes from, and what it may ask for: see `Connection`. A class and not a Protocol, as `Exchange`
    is."""

    __slots__ = ()

    def abort(self, why: str = "connection cut") -> None:
        raise NotImplementedError

    def pause_reading(self) -> None:
        raise NotImplementedError

    def resume_reading(self) -> None:
        raise NotImplementedError

    def response_complete(self, *, may_stay: bool) -> None:
        raise NotImplementedError


class ReceivedBody:
    """What of it has arrived, and where it ends."""

    complete = False
    """The whole body has arrived, though perhaps not all of it was taken yet."""

    # What most responses never change stays with the class: making one is part of every exchange.
    _source: Source | None
    _parts: list[bytes]
    _left = 0
    _chunks: Chunks | None = None
    _until_closed = False
    _waiting = 0
    _paused = False
    _may_stay = False
    _waiter: asyncio.Future[bool] | None = None

    def take(self) -> bytes:
        """All of the body that waits now."""
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._waiting = 0
        if self._paused:
            self._resume()
        return body

    def _resume(self) -> None:
        self._paused = False
        if self._source is not None:
            self._source.resume_reading()

    def _begin_body(self, ending: Ending | int, *, may_stay: bool) -> None:
        """The head has been read. `may_stay`: the connection, when the body has ended."""
        self._may_stay = may_stay
        if ending is Ending.CHUNKS:
            self._chunks = Chunks()
        elif ending is Ending.CLOSE:
            self._until_closed = True
        else:
            self._left = ending
        wake(self._waiter)

    def _read_body(self, data: bytes) -> None:
        """Raises BadFraming."""
        if self._chunks is not None:
            self._read_chunks(self._chunks, data)
        elif self._until_closed:
            self._keep(data)
        else:
            left = self._left - len(data)
            if left < 0:
                self._may_stay = False
                data, left = data[: self._left], 0
            self._left = left
            if not left:
                self._finish(data)
            else:
                self._keep(data)

    def _read_chunks(self, chunks: Chunks, data: bytes) -> None:
        if not data:
            return
        pieces: list[bytes] = []
        try:
            chunks.feed(data, pieces)
        except BadFraming:
            for piece in pieces:
                self._keep(piece)
            raise
        if chunks.over:
            self._may_stay = self._may_stay and not chunks.more
            self._finish(b"".join(pieces))
        else:
            for piece in pieces:
                self._keep(piece)

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self._parts.append(data)
        self._waiting += len(data)
        wake(self._waiter)
        if self._waiting > MAX_WAITING and not self._paused and self._source is not None:
            self._paused = True
            self._source.pause_reading()

    def _finish(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
        self.complete = True
        if self._paused:
            self._resume()
        source, self._source = self._source, None  # it holds on to us: each exchange would leave a cycle to collect
        wake(self._waiter)
        if source is not None:
            source.response_complete(may_stay=self._may_stay)
