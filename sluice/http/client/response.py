"""The response of one exchange: read as it comes, its body kept until somebody takes it.

    nothing ──> head (1xx heads are dropped) ──> body ──> over: complete, or failed with an UpstreamError

What has arrived of a body is always handed out before the error that ended it.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Protocol

from sluice.http.client.chunks import Chunks
from sluice.http.client.deadlines import Deadlines, bounded, wake
from sluice.http.client.framing import Ending, ending_of, stays_open
from sluice.http.client.response_head import read_head
from sluice.http.errors import (
    BadField,
    BadFraming,
    BadResponse,
    BodyCut,
    HeadTimeout,
    IdleTimeout,
    UpstreamError,
    UpstreamReset,
)
from sluice.http.fields import Fields

MAX_WAITING = 256 * 1024
"""Bytes of a body that wait unread before the upstream has to."""

Timeout = float | Deadlines | None
"""Seconds; the same for many waits of one length; None: however long it takes."""

_NO_FIELDS = Fields([])


class Source(Protocol):
    """Where a response comes from, and what it may ask for: see `Connection`."""

    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def response_complete(self, *, may_stay: bool) -> None: ...


class Response:
    """`status`, and `fields` as they came: order, repeats, case and bytes."""

    status = 0
    started = False
    """A byte of it has arrived."""
    complete = False
    """The whole body has arrived, though perhaps not all of it was taken yet."""

    # What most responses never change stays with the class: making one is part of every exchange.
    _head = b""
    """What has arrived of a head that is not complete."""
    _interim = 0
    """Bytes of heads that were passed over."""
    _left = 0
    _chunks: Chunks | None = None
    _until_closed = False
    _waiting = 0
    _paused = False
    _may_stay = False
    _waiter: asyncio.Future[bool] | None = None
    _error: UpstreamError | None = None

    def __init__(self, source: Source, *, head_only: bool) -> None:
        self._source: Source | None = source
        self._head_only = head_only
        self._parts: list[bytes] = []
        self.fields = _NO_FIELDS

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(field.name, field.value) for field in self.fields.all]

    async def head(self, timeout: Timeout) -> None:
        """Waits for status and fields. Raises HeadTimeout, UpstreamReset or BadResponse."""
        if not self.status and self._error is None and not await self._wait(timeout):
            self._abort()
            raise HeadTimeout(f"no response within {_in_words(timeout)}", response_started=self.started)
        if not self.status:
            raise self._error or BadResponse("no response", response_started=self.started)

    async def chunk(self, timeout: Timeout) -> bytes:
        """All of the body that waits, or the next piece of it within the timeout (None is for event streams); b"" at
        the clean end. Raises BodyCut, IdleTimeout, or BadResponse for broken chunks."""
        if not self._parts and not self.complete and self._error is None and not await self._wait(timeout):
            self._abort()
            raise IdleTimeout(f"no more of the body within {_in_words(timeout)}", response_started=True)
        if self._parts:
            return self.take()
        if self._error is not None:
            raise self._error
        return b""

    async def read(self, most: int, timeout: float | None) -> bytes:
        """The first `most` bytes of the body, within `timeout` seconds in all. If there is more, the connection is cut:
        a new one costs less than the rest of an endless answer. Raises like `chunk`."""
        end = None if timeout is None else monotonic() + timeout
        body = b""
        while len(body) < most:
            piece = await self.chunk(None if end is None else max(0.0, end - monotonic()))
            if not piece:
                return body
            body += piece
        self._abort()
        return body[:most]

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

    def _abort(self) -> None:
        if self._source is not None:
            self._source.abort()

    async def _wait(self, timeout: Timeout) -> bool:
        if self._waiter is not None:
            raise RuntimeError("two tasks read one response")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            return await (
                timeout.bounded(self._waiter) if isinstance(timeout, Deadlines) else bounded(self._waiter, timeout)
            )
        except asyncio.CancelledError:
            self._abort()
            raise
        finally:
            self._waiter = None

    # What the connection tells us.

    def received(self, data: bytes) -> None:
        self.started = True
        try:
            if self.status:
                self._read_body(data)
            else:
                self._read_head(data)
        except (BadField, BadFraming) as error:
            self._error = BadResponse(f"bad response: {error}", response_started=True)
            wake(self._waiter)
            self._abort()

    def lost(self, why: str, *, clean: bool) -> None:
        """The connection is gone; `clean` if the upstream closed it in good order."""
        self._source = None
        self._end_chunks()
        if self.complete or self._error is not None:
            return
        if not self.status:
            self._error = UpstreamReset(f"{why} before the response", response_started=self.started)
        elif clean and self._until_closed:
            self.complete = True
        else:
            self._error = BodyCut(f"{why} in the middle of the body", response_started=True)
        wake(self._waiter)

    def _read_head(self, data: bytes) -> None:
        """Raises BadField or BadFraming."""
        status, current, fields, rest, self._interim = read_head(self._head + data, self._interim)
        if not status:
            self._head = rest
            return
        ending = ending_of(status, current, fields, head_only=self._head_only)
        self._head = b""
        self.status, self.fields = status, fields
        self._may_stay = stays_open(current, fields)
        if ending is Ending.CHUNKS:
            self._chunks = Chunks()
        elif ending is Ending.CLOSE:
            self._until_closed = True
        else:
            self._left = ending
        wake(self._waiter)
        self._read_body(rest)

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
        pieces = chunks.feed(data)
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
        self._end_chunks()
        source, self._source = self._source, None  # it holds on to us: each exchange would leave a cycle to collect
        wake(self._waiter)
        if source is not None:
            source.response_complete(may_stay=self._may_stay)

    def _end_chunks(self) -> None:
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None


def _in_words(timeout: Timeout) -> str:
    seconds = timeout.seconds if isinstance(timeout, Deadlines) else timeout
    return f"{seconds:g} s"
