"""The response of one exchange: parsed as it comes, its body kept until somebody takes it.

    nothing ──> head (1xx heads are dropped) ──> body ──> over: complete, or failed with an UpstreamError

What has arrived of a body is always handed out before the error that ended it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import httptools

from runtime.http1.errors import (
    BadResponse,
    BodyCut,
    HeadTimeout,
    IdleTimeout,
    UpstreamError,
    UpstreamReset,
)
from runtime.http1.framing import Headers, ends_with_connection, stays_open
from runtime.http1.waits import bounded, wake

MOST_FIELDS = 256
MOST_HEAD = 64 * 1024
"""Bytes of a head, interim heads included; and of what chunks may carry besides data between two pieces of it."""
MOST_WAITING = 256 * 1024
"""Bytes of a body that wait unread before the upstream has to."""
END_OF_HEAD = b"\r\n\r\n"


class Source(Protocol):
    """Where a response comes from, and what it may ask for: see `Connection`."""

    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def response_complete(self, *, may_stay: bool) -> None: ...


class Response:
    """`status`, and `headers` as they came: order, repeats, case and bytes."""

    __slots__ = (
        "_complete",
        "_error",
        "_extra",
        "_head_only",
        "_may_stay",
        "_parser",
        "_parts",
        "_paused",
        "_quiet",
        "_refusal",
        "_source",
        "_until_closed",
        "_waiter",
        "_waiting",
        "headers",
        "started",
        "status",
    )

    def __init__(self, source: Source, *, head_only: bool) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.started = False
        self._source: Source | None = source
        self._head_only = head_only
        # A fresh one for each exchange: nothing an upstream sent before can colour what it sends next.
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._waiting = 0
        self._waiter: asyncio.Future[bool] | None = None
        self._quiet = 0
        """Bytes since the last piece of body: heads, chunk extensions and trailers have no length of their own."""
        self._paused = False
        self._until_closed = False
        self._complete = False
        self._may_stay = False
        self._extra = False
        self._error: UpstreamError | None = None
        self._refusal: str | None = None

    @property
    def complete(self) -> bool:
        """The whole body has arrived, though perhaps not all of it was taken yet."""
        return self._complete

    async def head(self, timeout: float | None) -> None:
        """Waits up to `timeout` seconds. Raises HeadTimeout, UpstreamReset or BadResponse."""
        if not self.status and self._error is None and not await self._wait(timeout):
            self._abort()
            raise HeadTimeout(f"no response within {timeout:g} s", response_started=self.started)
        if not self.status:
            raise self._error or BadResponse("no response", response_started=self.started)

    async def chunk(self, timeout: float | None) -> bytes:
        """All of the body that waits, or the next piece of it within `timeout` seconds (None: however long it takes,
        for event streams); b"" at the clean end. Raises BodyCut, IdleTimeout, or BadResponse for broken chunks."""
        if not self._parts and not self._complete and self._error is None and not await self._wait(timeout):
            self._abort()
            raise IdleTimeout(f"no more of the body within {timeout:g} s", response_started=True)
        if self._parts:
            return self._take()
        if self._error is not None:
            raise self._error
        return b""

    async def read(self, most: int, timeout: float | None) -> bytes:
        """The first `most` bytes of the body, within `timeout` seconds in all. If there is more, the connection is cut:
        a new one costs less than the rest of an endless answer. Raises like `chunk`."""
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        body = b""
        while len(body) < most:
            piece = await self.chunk(None if end is None else max(0.0, end - loop.time()))
            if not piece:
                return body
            body += piece
        self._abort()
        return body[:most]

    def _take(self) -> bytes:
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._waiting = 0
        self._resume()
        return body

    def _pause(self) -> None:
        if self._source is not None:
            self._paused = True
            self._source.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._source is not None:
                self._source.resume_reading()

    def _abort(self) -> None:
        if self._source is not None:
            self._source.abort()

    async def _wait(self, timeout: float | None) -> bool:
        if self._waiter is not None:
            raise RuntimeError("two tasks read one response")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            return await bounded(self._waiter, timeout)
        except asyncio.CancelledError:
            self._abort()
            raise
        finally:
            self._waiter = None

    # What the connection tells us.

    def received(self, data: bytes) -> None:
        self.started = True
        assert self._parser is not None
        status, waiting = self.status, self._waiting
        self._quiet += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._fail(BadResponse(f"bad response: {self._refusal or _reason(error)}", response_started=True))
                return
            self._extra = True
        if self._complete:
            self._finish(data)
        elif self._waiting != waiting:
            self._quiet = 0
            if self._waiting > MOST_WAITING and not self._paused:
                self._pause()
        elif self.status != status:
            self._quiet = 0
        elif self._quiet > MOST_HEAD:
            what = "chunks with too little data" if status else "too long a head"
            self._fail(BadResponse(f"bad response: {what}", response_started=True))

    def lost(self, why: str, *, clean: bool) -> None:
        """The connection is gone; `clean` if the upstream closed it in good order."""
        self._parser = self._source = None
        if self._complete or self._error is not None:
            return
        if not self.status:
            self._error = UpstreamReset(f"{why} before the response", response_started=self.started)
        elif clean and self._until_closed:
            self._complete = True
        else:
            self._error = BodyCut(f"{why} in the middle of the body", response_started=True)
        wake(self._waiter)

    def _finish(self, data: bytes) -> None:
        if self._head_only and not (data.endswith(END_OF_HEAD) or END_OF_HEAD.endswith(data)):
            self._extra = True
        self._resume()
        source = self._source
        # Both hold on to us: without this each exchange leaves cycles to collect.
        self._parser = self._source = None
        if source is not None:
            source.response_complete(may_stay=self._may_stay and not self._extra)

    def _fail(self, error: UpstreamError) -> None:
        self._error = error
        wake(self._waiter)
        self._abort()

    # What the parser tells us. An exception here comes back out of `feed_data` as a parser error.

    def on_message_begin(self) -> None:
        if self._complete:
            self._extra = True
        if not self.status:
            self.headers.clear()  # of an interim response

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.status:  # else it is a trailer, which neither ASGI nor the sender can pass on
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        if parser is None or self.status:
            return  # of a second response, which nobody asked for
        status, version = parser.get_status_code(), parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse("not HTTP/1.1")
        if len(self.headers) > MOST_FIELDS or (self._quiet > MOST_HEAD and _size(self.headers) > MOST_HEAD):
            self._refuse("too many or too long header fields")
        if status == 101 or status < 100:
            self._refuse("switching protocols was not asked for" if status == 101 else "invalid status")
        if status < 200:
            return
        try:
            self._until_closed = ends_with_connection(status, version, self.headers)
        except ValueError as error:
            self._refuse(str(error))
        self.status = status
        if self._head_only:
            # The parser does not know what was asked, and would now wait for the body that the fields describe.
            self._complete, self._may_stay = True, stays_open(version, self.headers)
        wake(self._waiter)

    def on_chunk_header(self) -> None:
        if self._complete:
            self._extra = True

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self._extra = True
            return
        self._parts.append(data)
        self._waiting += len(data)
        wake(self._waiter)

    def on_message_complete(self) -> None:
        if self._complete or not self.status or self._parser is None:
            return
        self._complete = True
        self._may_stay = self._parser.should_keep_alive()
        wake(self._waiter)

    def _refuse(self, why: str) -> None:
        self._refusal = why
        raise ValueError(why)


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, httptools.HttpParserError) else "unasked upgrade"
