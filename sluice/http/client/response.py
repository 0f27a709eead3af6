"""The response of one exchange: read as it comes, its body kept until somebody takes it.

    nothing ──> head (after any number of interim ones) ──> body ──> over: complete, or failed with an UpstreamError

What has arrived of a body is always handed out before the error that ended it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from sluice.http.client.deadlines import Deadlines, bounded, wake
from sluice.http.client.framing import ending_of, stays_open
from sluice.http.client.response_body import ReceivedBody, Source
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

Timeout = float | Deadlines | None
"""Seconds; the same for many waits of one length; None: however long it takes."""

_running_loop: Final = asyncio.get_running_loop
_NO_FIELDS: Final = Fields([])


class Response(ReceivedBody):
    """`status`, and `fields` as they came: order, repeats, case and bytes."""

    status = 0
    started = False
    """A byte of it has arrived."""
    _head = b""
    """What has arrived of a head that is not complete."""
    _interim = 0
    """Bytes of heads that were passed over."""
    _error: UpstreamError | None = None
    _sent = False
    on_interim: Callable[[int, Fields], object] | None = None
    """Called with status and fields of each interim response (1xx) as it comes."""

    def __init__(self, source: Source, *, head_only: bool) -> None:
        self._source = source
        self._parts = []
        self._head_only = head_only
        self.fields = _NO_FIELDS

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(field.name, field.value) for field in self.fields.all]

    async def until_sent(self) -> None:
        """Until `sent` is called, or what comes of the response is known: for a body whose sending others bound."""
        while not self.status and self._error is None and not self._sent:
            await self._wait(None)

    def sent(self) -> None:
        """No more of the request will be sent."""
        self._sent = True
        wake(self._waiter)

    async def head(self, timeout: Timeout) -> None:
        """Waits for status and fields. Raises HeadTimeout, UpstreamReset, BadResponse, or what it failed with."""
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

    def _abort(self) -> None:
        if self._source is not None:
            self._source.abort()

    async def _wait(self, timeout: Timeout) -> bool:
        if self._waiter is not None:
            raise RuntimeError("two tasks read one response")
        self._waiter = _running_loop().create_future()
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

    def fail(self, error: UpstreamError) -> None:
        """Nothing more can come of it."""
        if not self.complete and self._error is None:
            self._error = error
            wake(self._waiter)

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
        if self._head:
            data, self._head = self._head + data, b""
        status, current, fields, after = read_head(data, self._interim)
        while 0 < status < 200:
            self._interim += after
            if self.on_interim is not None:
                self.on_interim(status, fields)
            data = data[after:]
            status, current, fields, after = read_head(data, self._interim)
        if not status:
            self._head = data
            return
        ending = ending_of(status, current, fields, head_only=self._head_only)
        self.status, self.fields = status, fields
        self._begin_body(ending, may_stay=stays_open(current, fields))
        self._read_body(data[after:])


def _in_words(timeout: Timeout) -> str:
    """What is left of a longer time is no round number."""
    seconds = timeout.seconds if isinstance(timeout, Deadlines) else timeout
    return "any time" if seconds is None else f"{round(seconds, 2):g} s"
