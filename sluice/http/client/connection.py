"""One socket (`Wire`), and the loan of it for one exchange (`Connection`).

The loan is an object of its own so that nobody can hold on to a socket that has since been given to somebody else: when
its exchange is over, a `Connection` has let go, and aborting it does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from types import TracebackType
from typing import Final, cast

from sluice.http.client.deadlines import bounded, wake
from sluice.http.client.framing import NO_BODY, Framing, Headers, request_head
from sluice.http.client.response import Response, Timeout
from sluice.http.client.response_body import MAX_WAITING, Source
from sluice.http.errors import BadBody, IdleTimeout, UpstreamError, UpstreamReset

JOINED: Final = 4 * 1024
"""Bytes of a body up to which copying it behind its head is cheaper than handing over both."""


def address_text(name: object) -> str:
    """`192.0.2.7:8000`, `[2001:db8::7]:8000`, or `unix:` and a path. `name`: as `getpeername` has it."""
    if isinstance(name, tuple):
        host, port = str(name[0]), str(name[1])
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"unix:{name}" if isinstance(name, str) and name else ""


class Home:
    """Who owns the wires: see `Pool`. A class and not a Protocol, as `Exchange` is."""

    def opened(self, wire: Wire) -> None:
        raise NotImplementedError

    def freed(self, wire: Wire) -> None:
        raise NotImplementedError

    def closing(self, wire: Wire) -> None:
        raise NotImplementedError

    def lost(self, wire: Wire) -> None:
        raise NotImplementedError


class Wire:
    """A socket. It belongs to at most one exchange at a time; without one, whatever happens on it closes it."""

    __slots__ = (
        "_drained",
        "_home",
        "blocked",
        "closed",
        "exchange",
        "expires",
        "holds_permit",
        "idle",
        "made",
        "peer",
        "transport",
        "until",
    )

    transport: asyncio.Transport

    def __init__(self, home: Home) -> None:
        self._home = home
        self._drained: asyncio.Future[bool] | None = None
        self.exchange: Connection | None = None
        self.blocked = False
        self.closed = False
        self.made = False
        self.holds_permit = True
        self.idle = False
        self.expires = 0.0
        """The moment (monotonic) from which it carries no further exchange."""
        self.until = 0.0
        """Until when it may be used again, while it is idle."""
        self.peer = ""

    def abort(self, why: str = "connection cut") -> None:
        if not self.closed:
            self._end(why, clean=False)
            if self.made:
                self.transport.abort()

    def free(self) -> None:
        self._home.freed(self)

    async def drain(self, timeout: float) -> bool:
        """Waits until the upstream took enough, or is gone. False if it did neither within `timeout` seconds."""
        self._drained = asyncio.get_running_loop().create_future()
        try:
            return await bounded(self._drained, timeout)
        finally:
            self._drained = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.closed:
            self.transport.abort()  # whoever wanted it has given up meanwhile
            return
        self.made = True
        self.peer = address_text(self.transport.get_extra_info("peername"))
        self._home.opened(self)

    def data_received(self, data: bytes) -> None:
        if self.exchange is None:
            self.abort()
        else:
            self.exchange.received(data)

    def eof_received(self) -> bool:
        self._end("upstream closed", clean=True)
        self.transport.abort()  # a mere close would first wait for an upstream that reads no more
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.closed:
            self._read_what_is_left()
        self._end("upstream closed" if exc is None else "connection reset by the upstream", clean=exc is None)
        self._home.lost(self)

    def _read_what_is_left(self) -> None:
        """A write that fails ends the transport, and what had come before that is still unread: an early answer, as a
        rule. Of TLS it cannot be read any more."""
        transport = self.transport
        wire = transport.get_extra_info("socket")
        if self.exchange is None or wire is None or transport.get_extra_info("sslcontext") is not None:
            return
        with contextlib.suppress(OSError, ValueError):
            data = os.read(wire.fileno(), MAX_WAITING)
            if data:
                self.exchange.received(data)

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        wake(self._drained)

    def _end(self, why: str, *, clean: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self._home.closing(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.lost(why, clean=clean)
        wake(self._drained)


class Connection(Source):
    """A connection on loan for one request and its response. It goes back by itself when both ended cleanly.

    One task may send while another one reads; an early response ends the sending with UpstreamReset.
    `reused`: it has carried an exchange before, so it may turn out to have been closed meanwhile.
    """

    __slots__ = ("_chunked", "_left", "_response", "_why", "_wire", "reused")

    def __init__(self, wire: Wire, *, reused: bool) -> None:
        self.reused = reused
        self._wire: Wire | None = wire
        self._response: Response | None = None
        self._left = 0
        """Bytes of the body that are still to be sent; with chunks, 1 until the last one."""
        self._chunked = False
        self._why = "connection closed"
        wire.exchange = self

    @property
    def peer(self) -> str:
        """The address it leads to, as logs have it; empty when it is over."""
        return self._wire.peer if self._wire is not None else ""

    @property
    def is_over(self) -> bool:
        """It is gone, or was given back."""
        return self._wire is None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()

    def abort(self, why: str = "connection cut") -> None:
        """Cut at once, never reused; whoever waits on this exchange is told. Nothing happens once it is over."""
        if self._wire is not None:
            self._wire.abort(why)

    def send_head(
        self, method: bytes, target: bytes, headers: Headers, framing: Framing = NO_BODY, body: bytes = b""
    ) -> Response:
        """Sends the head, and with it `body`: all of the body, or the beginning of one that `send_body` goes on with.

        The response is still to come: see its `head`. Raises BadHead, BadBody, or UpstreamReset if the connection is
        already gone.
        """
        return self.send(request_head(method, target, headers, framing), framing, body, head_only=method == b"HEAD")

    def send(self, head: bytes, framing: Framing, body: bytes = b"", *, head_only: bool = False) -> Response:
        """The same, of a head that is known to be sound and to say what `framing` says. `head_only`: it is a HEAD."""
        if self._response is not None:
            raise RuntimeError("a connection is on loan for one exchange")
        wire = self._alive()
        self._chunked = framing.length is None
        self._left = 1 if framing.length is None else framing.length
        response = self._response = Response(self, head_only=head_only)
        if not body:
            wire.transport.write(head)
        elif self._chunked or len(body) > JOINED:
            wire.transport.writelines((head, *self._framed(body)))
        else:
            wire.transport.write(head + self._framed(body)[0])
        return response

    async def send_body(self, chunk: bytes, timeout: float = 60.0) -> None:
        """Sends a piece of the body, and waits for an upstream that is slow to take it, `timeout` seconds at most in
        which it takes nothing.

        Raises UpstreamReset once the connection is gone (there may still be a response to read), IdleTimeout, BadBody.
        """
        wire = self._alive()
        if chunk:
            wire.transport.writelines(self._framed(chunk))
        if wire.blocked:
            await self.drain(timeout)

    async def drain(self, timeout: float) -> None:
        """Until the upstream has taken nearly all of what was sent. Raises UpstreamReset and IdleTimeout."""
        wire = self._alive()
        unsent = wire.transport.get_write_buffer_size()
        try:
            while wire.blocked and not await wire.drain(timeout):
                left = wire.transport.get_write_buffer_size()
                if left >= unsent:
                    raise self._stuck(timeout)
                unsent = left
        except asyncio.CancelledError:
            self.abort()
            raise
        self._alive()

    def _stuck(self, timeout: float) -> UpstreamError:
        error = IdleTimeout(f"it took no more of the body for {timeout:g} s", response_started=self._started)
        if self._response is not None and not self._response.status:
            self._response.fail(error)
        self.abort()
        return error

    @property
    def blocked(self) -> bool:
        """The upstream has still to take some of what was sent: see `drain`."""
        return self._wire is not None and self._wire.blocked

    def end_body(self) -> None:
        """The body is all sent. Raises BadBody, and cuts the connection, if the head announced more."""
        if self._wire is None:
            return
        if self._chunked and self._left:
            self._left = 0
            self._wire.transport.write(b"0\r\n\r\n")
        elif self._left:
            self.abort()
            raise BadBody("less body than the head announced")

    async def response(self, timeout: Timeout) -> Response:
        """The head of the response, within the timeout; may be awaited while the body is still being sent.

        Raises HeadTimeout, UpstreamReset or BadResponse.
        """
        if self._response is None:
            raise RuntimeError("no request was sent")
        await self._response.head(timeout)
        return self._response

    @property
    def _started(self) -> bool:
        return self._response is not None and self._response.started

    def _alive(self) -> Wire:
        if self._wire is None:
            raise UpstreamReset(f"{self._why} while sending", response_started=self._started)
        return self._wire

    def _framed(self, chunk: bytes) -> tuple[bytes, ...]:
        if self._chunked and self._left:
            return (b"%x\r\n" % len(chunk), chunk, b"\r\n")
        if self._chunked or len(chunk) > self._left:
            self.abort()
            raise BadBody("more body than the head announced")
        self._left -= len(chunk)
        return (chunk,)

    # What the wire tells us.

    def received(self, data: bytes) -> None:
        if self._response is None:
            self.abort()
        else:
            self._response.received(data)

    def lost(self, why: str, *, clean: bool) -> None:
        self._wire = None
        self._why = why
        if self._response is not None:
            self._response.lost(why, clean=clean)

    # What the response asks for.

    def pause_reading(self) -> None:
        if self._wire is not None and not self._wire.transport.is_closing():
            self._wire.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._wire is not None and not self._wire.transport.is_closing():
            self._wire.transport.resume_reading()

    def response_complete(self, *, may_stay: bool) -> None:
        wire = self._wire
        if wire is None:
            return
        self._wire = None
        self._why = "response complete"
        wire.exchange = None
        transport = wire.transport
        if may_stay and not self._left and not transport.is_closing() and not transport.get_write_buffer_size():
            wire.free()
        else:
            wire.abort()
