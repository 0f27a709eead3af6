"""uvicorn's HTTP/1.1 connection, made strict, bounded and exact.

uvicorn hands bytes to its parser as they come, and so never sees where a request begins. Here the bytes are cut first:

    at a head ──> sized body ─┐
       │  └─────> chunks ─────┤
       │                      ├──> at a head again, or over (`Connection: close`, HTTP/1.0, refused)
       └──────────────────────┘

A head is read when it has all come (`head`); a second one is not looked at before the first is answered. Whatever can
be read in two ways is refused, as problem+json, and the connection closed. uvicorn's parser reads the chunks.

What `serve` does not use is not here: root_path, limit_concurrency, access log, default headers, reset_contextvars.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import httptools
from uvicorn import Config
from uvicorn.server import ServerState

from sluice.http.fields import UPGRADE
from sluice.http.server import metrics
from sluice.http.server.cycle import Cycle
from sluice.http.server.flow import MAX_UNREAD, FlowControl
from sluice.http.server.head import RequestHead, problem, read_head, refuse_early
from sluice.http.server.refused import Refused
from sluice.observe.log import Log

HEAD_WITHIN = 30.0
"""Seconds from the first byte of a head to its last."""
_FIRST_WITHIN = 1.0
"""Seconds that a new connection has for its request when the server stops."""
_LINGER = 2.0
"""Seconds a client may go on sending after a refusal: closed at once, the kernel would reset it unread."""
_MAX_OVERHEAD = 64 * 1024
"""Bytes of chunk extensions and trailers, beyond what chunks of their size need."""
_MAX_HANDSHAKE_FIELDS, _MAX_HANDSHAKE_LINE = 120, 8000
"""Of the library that answers handshakes, a little less: beyond its own it would leave them unanswered."""
_CHUNKS_FOLLOW = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

_AT_HEAD, _CHUNKS, _OVER = 0, -1, -2
"""Where a connection is; above 0: so many bytes of a sized body are still to come."""

Direct = Callable[[Cycle], Coroutine[Any, Any, None] | None]
"""Answers a request without ASGI between; None: not this one."""

LOG = Log("gateway")


class ServerProtocol:
    """One connection of a client. `direct` is asked first; what it does not answer goes to the ASGI application.

    Created and called as uvicorn's own protocols are: see `uvicorn.server.Server`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        direct: Direct | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_event_loop()
        self.app_state = app_state
        self.asgi_version = config.asgi_version
        self.timeout_keep_alive = float(config.timeout_keep_alive)
        self.tasks = server_state.tasks
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.scheme = "http"
        self.cycle: Cycle | None = None
        self._config = config
        self._state = server_state
        self._direct = direct
        self._parser: httptools.HttpRequestParser | None = None  # once there are chunks
        self._websocket: asyncio.Protocol | None = None  # once it has become one
        self._at: int = _AT_HEAD
        self._last = False  # no request is read after this one
        self._stopping = False  # nor on any other connection
        self._whole = False  # the parser has come to the end of a message
        self._head = bytearray()  # what has come of a head
        self._prefetch = bytearray()  # what has come after a request that is not answered yet
        self._chunk_end = b""  # the last bytes of chunks, which may begin the end of the message
        self._overhead = 0
        self._quiet = False  # nothing of a body has come since the timer looked
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # --- called by the transport, and by uvicorn's server

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._deadline = self.loop.time() + self.timeout_keep_alive
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._state.connections.discard(self)
        self._parser = None  # it holds on to us
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnect()
        elif self.cycle is not None and isinstance(exc, ConnectionError):
            self.cycle.reset()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()

    def eof_received(self) -> None:
        """Then the transport closes."""

    def pause_writing(self) -> None:
        self.flow.pause_writing()

    def resume_writing(self) -> None:
        self.flow.resume_writing()

    def shutdown(self) -> None:
        """No more requests; the one under way is answered first, and so is the first of a new connection: closed
        before it has come, the kernel would reset it."""
        self._stopping = True
        if self.cycle is None:
            self._stop_timer()
            self._deadline = self.loop.time() + _FIRST_WITHIN
            self._timer = self.loop.call_later(_FIRST_WITHIN, self._late)
        elif self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    # --- reading

    def data_received(self, data: bytes) -> None:
        if self._prefetch:
            self._wait_behind(data)
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        try:
            while data:
                if self._at == _AT_HEAD:
                    data = self._read_head(data)
                elif self._at > 0:
                    data = self._read_sized(data)
                elif self._at == _CHUNKS:
                    data = self._read_chunks(data)
                else:
                    if self._websocket is not None:
                        self._websocket.data_received(data)
                    return
        except Refused as refused:
            self._refuse(refused.status, str(refused))
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is not HTTP/1.1: {error}")

    def _wait_behind(self, data: bytes) -> None:
        """Pipelined requests are answered in their order (RFC 9112 section 9.3.2), so one is taken at a time."""
        self._prefetch += data
        if len(self._prefetch) > MAX_UNREAD:
            self.flow.pause_reading()

    def _read_head(self, data: bytes) -> bytes:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._wait_behind(data)
            return b""
        if not self._head and data[0] > 0x20:
            end = data.find(b"\r\n\r\n") + 4
            if end > 3:
                self._take_head(data if end == len(data) else data[:end])
                return data[end:]
        return self._piece_head(data)

    def _piece_head(self, data: bytes) -> bytes:
        """A head that comes in pieces, or after an empty line, which is passed over (RFC 9112 section 2.2)."""
        head = self._head
        begun, waited = len(head), bool(head)
        head += data
        while head.startswith(b"\r\n"):
            del head[:2]
            begun = 0
        end = head.find(b"\r\n\r\n", max(0, begun - 3)) + 4
        if end > 3:
            rest, whole = bytes(head[end:]), bytes(head[:end])
            head.clear()
            self._take_head(whole)
            return rest
        if head:
            refuse_early(head, begun)
            if not waited:
                self._wait_for_head()
        return b""

    def _wait_for_head(self) -> None:
        self._stop_timer()
        self._deadline = self.loop.time() + HEAD_WITHIN
        self._timer = self.loop.call_later(HEAD_WITHIN, self._late)

    def _take_head(self, data: bytes) -> None:
        head = read_head(data)
        if head.fields.kinds & UPGRADE and head.wants_websocket:
            self._start_websocket(head)
            return
        cycle = self.cycle = Cycle(self, head)
        if self._stopping:
            cycle.keep_alive = False
        self._last = not cycle.keep_alive
        if head.length == 0:
            self._end_message()
        else:
            self._expect_body(cycle)
        self._start(cycle)

    def _expect_body(self, cycle: Cycle) -> None:
        self._quiet = False
        cycle.expect_body()
        if cycle.head.length is None:
            self._at, self._chunk_end, self._overhead = _CHUNKS, b"", 0
            self._whole = False
            self._parser = self._parser or httptools.HttpRequestParser(self)
            self._parser.feed_data(_CHUNKS_FOLLOW)
        else:
            self._at = cycle.head.length

    def _start(self, cycle: Cycle) -> None:
        work = self._direct(cycle) if self._direct is not None else None
        if work is None:
            work = self._asgi(cycle)
        cycle.task = self.loop.create_task(cycle.run(work))
        self.tasks.add(cycle.task)

    async def _asgi(self, cycle: Cycle) -> None:
        await self._config.loaded_app(cycle.scope(), cycle.receive, cycle.send)

    def _start_websocket(self, head: RequestHead) -> None:
        headers = [(field.key, field.value) for field in head.fields.all]
        if len(headers) > _MAX_HANDSHAKE_FIELDS or any(
            len(name) + len(value) > _MAX_HANDSHAKE_LINE for name, value in headers
        ):
            raise Refused(431, "a WebSocket handshake has 128 fields of 8 KiB at most")
        self._at = _OVER
        self._stop_timer()
        self._state.connections.discard(self)
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        make: Any = self._config.ws_protocol_class
        protocol = make(config=self._config, server_state=self._state, app_state=self.app_state)
        protocol.connection_made(self.transport)
        protocol.data_received(b"%b %b HTTP/1.1\r\n%b\r\n" % (head.method, head.target, lines))
        self.transport.set_protocol(protocol)
        self._websocket = protocol  # which gets what came behind the head

    def _read_sized(self, data: bytes) -> bytes:
        piece, rest = (data, b"") if len(data) <= self._at else (data[: self._at], data[self._at :])
        self._at -= len(piece)
        self._take_body(piece)
        if self._at == 0:
            self._end_message()
        return rest

    def _read_chunks(self, data: bytes) -> bytes:
        """Fed up to each empty line: one of them is the end, and only the parser knows which."""
        known = len(self._chunk_end)
        joined = self._chunk_end + data
        begin = known
        while begin < len(joined):
            end = joined.find(b"\r\n\r\n", max(0, begin - 3)) + 4
            if end < 4:
                end = len(joined)
            self._feed_chunks(joined[begin:end])
            if self._whole:
                self._end_message()
                return joined[end:]
            begin = end
        self._chunk_end = joined[-3:]
        return b""

    def _feed_chunks(self, piece: bytes) -> None:
        self._overhead += len(piece)
        assert self._parser is not None
        self._parser.feed_data(piece)
        if self._overhead > _MAX_OVERHEAD:
            raise Refused(400, "there is too much beside the chunks' data")

    def _take_body(self, body: bytes) -> None:
        cycle = self.cycle
        assert cycle is not None
        if cycle.response_complete or cycle.disconnected:
            return
        self._quiet = False
        cycle.add_body(body)
        if len(cycle.body) > MAX_UNREAD:
            self.flow.pause_reading()
        cycle.notify()

    def _end_message(self) -> None:
        self._at = _OVER if self._last else _AT_HEAD
        cycle = self.cycle
        assert cycle is not None
        if cycle.more_body:
            cycle.more_body = False
            if not cycle.response_complete:
                cycle.notify()

    # --- called by the parser; trailers are dropped: none may become a header (RFC 9110 section 6.5.1)

    def on_body(self, body: bytes) -> None:
        self._overhead = max(0, self._overhead - 2 * len(body) - 16)
        self._take_body(body)

    def on_message_complete(self) -> None:
        self._whole = True

    # --- answering

    def on_response_complete(self) -> None:
        self._state.total_requests += 1
        if self.transport.is_closing():
            return
        self._deadline = self.loop.time() + self.timeout_keep_alive
        self.flow.resume_reading()
        if self._prefetch:
            next_head, self._prefetch = bytes(self._prefetch), bytearray()
            self._read(next_head)

    def close(self) -> None:
        """After the last answer."""
        if self._at == _AT_HEAD or (self._at == _OVER and self.cycle is not None and not self.cycle.more_body):
            self.transport.close()
        else:
            self._close_when_read()

    def _close_when_read(self) -> None:
        """RFC 9112 section 9.6: what we say is read only if the client may end its sending."""
        self._at = _OVER
        self._stop_timer()
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self.transport.write_eof()
                self.flow.resume_reading()
                self._timer = self.loop.call_later(_LINGER, self.transport.close)
                return
        self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        in_body, cycle = self._at != _AT_HEAD, self.cycle
        self._at = _OVER
        metrics.request("-", status, 0.0)
        LOG.info("request.refused", status=status, why=detail, client=self.client[0] if self.client else None)
        if in_body and cycle is not None:
            if cycle.response_started:
                cycle.abort()
            cycle.disconnect()
            if cycle.response_started:
                return
        self.transport.write(problem(status, detail))
        self._close_when_read()

    # --- waiting

    def _late(self) -> None:
        now = self.loop.time()
        self._timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            if self._stalled():
                self._refuse(408, f"no more of the body came for {self.timeout_keep_alive:g} seconds")
                return
            self._deadline = now + self.timeout_keep_alive
        elif now + 0.01 >= self._deadline:
            if self._head and not self._stopping:
                self._refuse(408, f"the head took longer than {HEAD_WITHIN:g} seconds")
            else:
                self.transport.close()
            return
        self._timer = self.loop.call_at(self._deadline, self._late)

    def _stalled(self) -> bool:
        """Nothing of a body came since the last look, though somebody is there to take it."""
        quiet, self._quiet = self._quiet, True
        return quiet and self.cycle is not None and self.cycle.more_body and not self.flow.read_paused

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _address(name: object) -> tuple[str, int] | None:
    """Address and port; None of a unix socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
