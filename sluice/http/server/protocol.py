"""uvicorn's HTTP/1.1 connection, made strict, bounded and exact.

uvicorn hands bytes to its parser as they come, and so never sees where a request begins. Here the bytes are cut first:

    at a head ──> sized body ─┐
       │  └─────> chunks ─────┤
       │                      ├──> at a head again, or over (`Connection: close`, HTTP/1.0, refused)
       └──────────────────────┘

A head is read when it has all come (`head`); a second one is not looked at before the first is answered. Whatever can
be read in two ways is refused, as problem+json, and the connection closed.

What `serve` does not use is not here: root_path, limit_concurrency, access log, default headers, reset_contextvars.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, Final

import httptools
from uvicorn import Config
from uvicorn.server import ServerState

from sluice.http.fields import UPGRADE
from sluice.http.negotiation import accepted_by, accepted_in
from sluice.http.request_id import id_of, new_line
from sluice.http.server import metrics
from sluice.http.server.bounds import ClientBounds
from sluice.http.server.chunks import ChunkedBody
from sluice.http.server.crowd import Crowd
from sluice.http.server.cycle import Cycle
from sluice.http.server.exchange import LISTENER, LOCAL_PEER
from sluice.http.server.flow import MAX_UNREAD, FlowControl
from sluice.http.server.head import RequestHead, percent_encoded, problem, read_head, refuse_early
from sluice.http.server.refused import Refused
from sluice.http.server.waiting import ClientClock
from sluice.observe.log import Log
from sluice.process import files

_AT_ONCE: Final = 16 * 1024
"""Bytes of an answer from which on it is written without waiting for the end of the loop's pass."""
_FIRST_WITHIN: Final = 1.0
"""Seconds that a new connection has for its request when the server stops, or has no files left for it."""
_REFUSED_TOGETHER: Final = 16
"""Connections of an address beyond its share that may wait for their 503; others are reset at once."""
_MAX_HANDSHAKE_FIELDS: Final = 120
_MAX_HANDSHAKE_LINE: Final = 8000
"""Of the library that answers handshakes, a little less: beyond its own it would leave them unanswered."""

_AT_HEAD: Final = 0
_CHUNKS: Final = -1
_OVER: Final = -2
"""Where a connection is; above 0: so many bytes of a sized body are still to come."""

Direct = Callable[[Cycle], Coroutine[Any, Any, None] | None]
"""Answers a request without ASGI between; None: not this one."""
Bounds = Callable[[], ClientBounds]
"""What a connection that is made now goes by."""

LOG: Final = Log("gateway")


class ServerProtocol:
    """One connection of a client. `direct` is asked first; what it does not answer goes to the ASGI application.
    `bounds` says how long and how much its client may take.

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
        bounds: Bounds = ClientBounds,
        crowd: Crowd | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_event_loop()
        self.app_state = app_state
        self.asgi_version = config.asgi_version
        self._bounds = bounds()
        self.tasks = server_state.tasks
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        self.listener: str = app_state.get(LISTENER, "")
        self.scheme = "http"
        self.cycle: Cycle | None = None
        self._config = config
        self._state = server_state
        self._direct = direct
        self._crowd = crowd
        self._counts_as: str | None = None  # in the crowd
        self._chunks: ChunkedBody | None = None  # once there are any
        self._websocket: asyncio.Protocol | None = None  # once it has become one
        self._at: int = _AT_HEAD
        self._last = False  # no request is read after this one
        self._crowded = False  # it has one of the last files, so only what is for ourselves is answered
        self.stopping = False  # nor on any other connection
        self._head = bytearray()  # what has come of a head
        self._prefetch = bytearray()  # what has come after a request that is not answered yet
        self._clock = ClientClock(self, self._bounds)

    # --- called by the transport, and by uvicorn's server

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = _address(transport.get_extra_info("sockname"))
        self.client = _address(transport.get_extra_info("peername"))
        if self.client is None and self.server is None and transport.get_extra_info("sockname"):
            self.client = LOCAL_PEER
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        # Little waits beside what the kernel takes, so that whoever writes, and the clock, soon know when it takes no
        # more. But a usual answer waits for the end of the loop's pass: written at once, it wakes its client at once,
        # and the loop makes a pass for each request. TLS has a buffer behind this one.
        transport.set_write_buffer_limits(high=1 if self.scheme == "https" else _AT_ONCE, low=0)
        self._state.connections.add(self)  # type: ignore[arg-type]
        self._clock.await_request()
        too_many = 0
        if self._crowd is not None and self.client is not None:
            self._counts_as, too_many = self._crowd.enter(transport, self.client[0])
        if too_many or files.is_reserved(transport):
            self._be_brief(too_many)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_crowd()
        self._state.connections.discard(self)
        cycle = self.cycle
        self._let_go()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnect()
        elif cycle is not None and isinstance(exc, ConnectionError):
            cycle.reset()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()

    def _let_go(self) -> None:
        """Of what holds on to this connection, so that it is gone at once when nobody needs it any more. What only the
        garbage collector finds, everybody waits for: a fifth of a second for some thousand connections."""
        self._at = _OVER
        self._clock.close()
        self.cycle = None
        if self._chunks is not None:
            self._chunks.close()
            self._chunks = None

    def eof_received(self) -> None:
        """Then the transport closes."""

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self._clock.blocked()

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        self._clock.unblocked()
        if self.cycle is not None and self.cycle.response_complete and not self.transport.is_closing():
            self._read_next()

    def shutdown(self) -> None:
        """No more requests; the one under way is answered first, and so is the first of a new connection: closed
        before it has come, the kernel would reset it."""
        self.stopping = True
        if self.cycle is None:
            self._clock.await_request(within=_FIRST_WITHIN)
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
            if self.flow.read_paused:
                self._clock.watch_unread()
            elif self._at > 0 or self._at == _CHUNKS:
                self._clock.await_body()
        except Refused as refused:
            self.refuse(refused.status, str(refused), data)
        except httptools.HttpParserError as error:
            self.refuse(400, f"this is not HTTP/1.1: {error}")

    def _wait_behind(self, data: bytes) -> None:
        """Pipelined requests are answered in their order (RFC 9112 section 9.3.2), so one is taken at a time, and none
        before the answers to those before it were taken: we would keep them all."""
        self._prefetch += data
        if len(self._prefetch) > MAX_UNREAD:
            self.flow.pause_reading()
            self._clock.watch_unread()

    def _read_head(self, data: bytes) -> bytes:
        cycle = self.cycle
        if cycle is not None and (self.flow.write_paused or not cycle.response_complete):
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
            refuse_early(head, begun, self._bounds.head_size)
            if not waited:
                self._clock.await_head()
        return b""

    def _take_head(self, data: bytes) -> None:
        self._clock.await_nothing()
        head = read_head(data, self._bounds.head_size)
        if head.fields.kinds & UPGRADE and head.wants_websocket:
            self._start_websocket(head)
            return
        cycle = self.cycle = Cycle(self, head)
        if self.stopping or self._crowded:
            cycle.keep_alive = False
        self._last = not cycle.keep_alive
        if head.length == 0:
            self._end_message()
        else:
            self._expect_body(cycle)
        self._start(cycle)

    def _expect_body(self, cycle: Cycle) -> None:
        cycle.expect_body()
        if cycle.head.length is None:
            self._at = _CHUNKS
            self._chunks = self._chunks or ChunkedBody(self._take_body)
            self._chunks.begin()
        else:
            self._at = cycle.head.length

    def _start(self, cycle: Cycle) -> None:
        work = self._direct(cycle) if self._direct is not None else None
        if work is not None and self._crowded:
            work.close()
            raise self._no_room()
        if work is None:
            work = self._asgi(cycle)
        cycle.task = asyncio.Task(cycle.run(work), loop=self.loop, name="request")  # else each gets a name made for it
        self.tasks.add(cycle.task)

    async def _asgi(self, cycle: Cycle) -> None:
        await self._config.loaded_app(cycle.scope(), cycle.receive, cycle.send)

    def _start_websocket(self, head: RequestHead) -> None:
        if self._crowded:
            raise self._no_room()
        headers = [(field.key, field.value) for field in head.fields.all]
        if len(headers) > _MAX_HANDSHAKE_FIELDS or any(
            len(name) + len(value) > _MAX_HANDSHAKE_LINE for name, value in headers
        ):
            raise Refused(431, "a WebSocket handshake has 128 fields of 8 KiB at most")
        self._let_go()
        self._state.connections.discard(self)
        self.transport.set_write_buffer_limits()  # as the library expects it
        lines = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        make: Any = self._config.ws_protocol_class
        protocol = make(config=self._config, server_state=self._state, app_state=self.app_state)
        protocol.connection_made(self.transport)
        protocol.data_received(b"%b %b HTTP/1.1\r\n%b\r\n" % (head.method, percent_encoded(head.target), lines))
        protocol.on_lost = self._leave_crowd
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
        assert self._chunks is not None
        rest = self._chunks.read(data)
        if rest is None:
            return b""
        self._end_message()
        return rest

    def _take_body(self, body: bytes) -> None:
        cycle = self.cycle
        assert cycle is not None
        if cycle.response_complete or cycle.disconnected:
            return
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
            if cycle.response_complete:
                self._clock.await_request()
            else:
                self._clock.await_nothing()
                cycle.notify()

    # --- answering

    def watch_written(self) -> None:
        """Of an answer something was written, and perhaps is not taken yet; nobody knows when more comes."""
        self._clock.watch_written()

    def on_response_complete(self) -> None:
        self.watch_written()
        if not self.transport.is_closing():
            self._clock.await_request()
            self._read_next()

    def _read_next(self) -> None:
        """What has come behind a request that is answered."""
        if self._prefetch and self.flow.write_paused:
            return
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
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self.transport.write_eof()
                self.flow.resume_reading()
                self._clock.linger()
                return
        self.transport.close()

    @property
    def in_head(self) -> bool:
        """A head has begun to come."""
        return bool(self._head)

    def refuse(self, status: int, detail: str, data: bytes = b"") -> None:
        """Instead of the request that is read, and as the last answer. `data`: what has come last of its head."""
        in_body, cycle = self._at != _AT_HEAD, self.cycle
        self._at = _OVER
        id_line = cycle.id_line if in_body and cycle is not None and cycle.id_line else new_line()
        client = self.client[0] if self.client else None
        LOG.info("request.refused", status=status, why=detail, client=client, request_id=id_of(id_line))
        if in_body and cycle is not None:
            if cycle.response_started:
                cycle.abort()
            cycle.disconnect(detail, status)
            if cycle.response_started:
                return
        else:
            metrics.request("-", status, 0.0)
        head = bytes(self._head) or data
        accept = accepted_by(cycle.head.fields) if in_body and cycle is not None else accepted_in(head)
        self.transport.write(problem(status, detail, id_line, accept))
        self._close_when_read()

    # --- when the files are used up

    def _be_brief(self, too_many: int) -> None:
        """It has one of the files that are kept for upstreams, the store and the log, or its address has too many. What
        `direct` does not answer, health and the console, is answered still; all else is refused, and silence ends soon.
        """
        self._crowded = True
        if too_many > _REFUSED_TOGETHER or files.is_nearly_last(self.transport):
            metrics.connection_refused()
            self.transport.abort()
        else:
            self.loop.call_later(_FIRST_WITHIN, self._end_silence)

    def _leave_crowd(self) -> None:
        counts_as, self._counts_as = self._counts_as, None
        if self._crowd is not None and counts_as is not None:
            self._crowd.leave(counts_as)

    def _no_room(self) -> Refused:
        metrics.connection_refused()
        return Refused(503, "too many connections are open here; try again later")

    def _end_silence(self) -> None:
        if self.cycle is None and self._at == _AT_HEAD:
            metrics.connection_refused()
            self.transport.close()


def _address(name: object) -> tuple[str, int] | None:
    """Address and port; None of a unix socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
