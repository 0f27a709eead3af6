"""uvicorn's WebSocket connection, made bounded: what comes on it is read as `sluice.http.websocket` says.

uvicorn parses all that was read at once, answers pings without end, and reads on before the handshake is answered.
Here a frame is looked at when there is room for its message, and pings are answered as they can be. What a client sent
before it went away is handed on all the same. A handshake that is wrong gets problem+json, and is counted and logged.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from uvicorn import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import Close, Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from sluice.http.date import date_line
from sluice.http.fields import pair_of
from sluice.http.problem import Refusal
from sluice.http.request_id import id_of, new_line
from sluice.http.server import metrics
from sluice.http.websocket import Intake, WebSocketLimits, let_go
from sluice.observe.log import Log

VERSION = "13"
_QUEUED, _QUEUED_BYTES = 16, 64 * 1024
"""Messages and their bytes that wait to be taken, beyond which no further frame is looked at."""
_CLOSED_WITHIN = 5.0
"""Seconds that a client has to answer our close frame."""
_LINGER = 2.0
"""Seconds in which a client that is cut off may read why: closed at once, the kernel would reset it unread."""
_GONE_WITHIN = 6.0
"""Seconds after which a connection is gone on which nothing is said any more, whether the client has read it or not."""
_MAX_DETAIL = 200

LOG = Log("gateway")


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket of a client. `limits` is asked when it opens."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Callable[[], WebSocketLimits] = WebSocketLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits()
        let_go(self.conn)
        extensions = self.conn.available_extensions
        self.conn = WebSocketHandshake(extensions=extensions, max_size=self._limits.message, logger=self.logger)
        self.close_timeout = _CLOSED_WITHIN
        self.on_lost: Callable[[], object] | None = None
        """Called when the connection is gone."""
        self._message = bytearray()  # of fragments
        self._queued = self._queued_size = 0
        self._pong = b""
        self._taken = False
        self._answered = False  # the application has ended, or was not asked
        self._gone: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._intake = Intake(self.transport, self._limits, super().data_received, self._ready, self._cut)

    # --- reading

    def data_received(self, data: bytes) -> None:
        """First the head of the handshake, as a whole."""
        if self.handshake_initiated:
            self._intake.data_received(data)
        else:
            super().data_received(data)

    def _ready(self) -> bool:
        """Nothing may be answered before the handshake is, nothing be read that nobody takes."""
        return self.handshake_complete and not self._full

    @property
    def _full(self) -> bool:
        return not self.close_sent and (self._queued >= _QUEUED or self._queued_size >= _QUEUED_BYTES)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        self._intake.frames.inflates = bool(self.conn.extensions)
        if self.response.status_code != 101:
            self._answered = True
            self._intake.end()
            _note_refused(self.conn, self.response, self.client[0] if self.client else None)

    def handle_text(self, event: Frame) -> None:
        self._begin("text", event)

    def handle_bytes(self, event: Frame) -> None:
        self._begin("bytes", event)

    def _begin(self, kind: Any, event: Frame) -> None:
        self.curr_msg_data_type = kind
        self._intake.arrived(len(event.data), whole=event.fin)
        if event.fin:
            self._hand_on(event.data)
        else:
            self._message += event.data

    def handle_cont(self, event: Frame) -> None:
        """Fragments are joined as they come: millions of empty ones would take memory, too."""
        self._message += event.data
        self._intake.arrived(len(event.data), whole=event.fin)
        if event.fin:
            whole, self._message = self._message, bytearray()
            self._hand_on(whole)

    def _hand_on(self, data: Any) -> None:
        if self.close_sent:
            self._intake.passed_on()
            return
        try:
            message = _received(self.curr_msg_data_type, data)
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        self._queued += 1
        self._queued_size += len(data)
        self.queue.put_nowait(message)

    async def receive(self) -> Any:
        """Who asks for the next one has passed on the one before."""
        if self._taken:
            self._taken = False
            self._intake.passed_on()
        message = await self.queue.get()
        if message["type"] == "websocket.receive":
            self._taken = True
            self._queued -= 1
            if not self._queued:
                self._queued_size = 0
                self._intake.go_on()
        return message

    def handle_ping(self) -> None:
        """While the client takes nothing, only its last one is going to be answered (RFC 6455 section 5.5.3)."""
        pong = b"".join(self.conn.data_to_send())
        if not self.writable.is_set():
            self._pong = pong
        elif not self.transport.is_closing():
            self.transport.write(pong)

    # --- writing

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] != "websocket.send":
            self._intake.go_on()  # the handshake is answered, or what comes is not handed on any more

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        self.transport.write(pong)

    # --- the end

    def handle_close(self, event: Frame) -> None:
        if self.close_sent:
            super().handle_close(event)
            return
        closed = self.conn.close_rcvd
        assert closed is not None
        self._leave(closed)
        if not self.transport.can_write_eof():
            self.transport.close()

    def _cut(self, code: int, why: str) -> None:
        self.conn.fail(code, why)
        self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        sent = self.conn.close_sent
        assert sent is not None
        metrics.websocket_cut("client", sent.code)
        self._leave(sent)

    def _leave(self, closed: Close) -> None:
        """Says the last thing, so that the client can read it, whatever it is still sending."""
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self._intake.end()
        self.close_sent = True
        output = b"".join(self.conn.data_to_send())
        if self.transport.is_closing():
            return
        self.transport.write(output)
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self.transport.write_eof()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(_LINGER, self.transport.abort)

    def keepalive_timeout(self) -> None:
        """A client whose answer lies behind messages that nobody takes is not to blame."""
        if self._full and self.writable.is_set():
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
        else:
            super().keepalive_timeout()

    def shutdown(self) -> None:
        self._intake.end()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._gone is not None:
            self._gone.cancel()
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()
        self.stop_keepalive()
        self.disconnected = True
        self.writable.set()
        if not self.handshake_complete or self.close_sent:
            self._intake.end()
        self._intake.lost(partial(super().connection_lost, exc))
        if self._answered:
            self._intake.close()
            let_go(self.conn)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self._answered = True
        self._intake.close()
        if self.disconnected:
            let_go(self.conn)
        else:
            self._gone = self.loop.call_later(_GONE_WITHIN, self.transport.abort)


class WebSocketHandshake(ServerProtocol):
    """Refuses as we refuse all else, and says which version is spoken here (RFC 6455 section 4.4)."""

    def accept(self, request: Request) -> Response:
        response = super().accept(request)
        if response.status_code == 101:
            return response
        versions = request.headers.get_all("Sec-WebSocket-Version")
        status = 426 if versions and versions != [VERSION] else response.status_code
        id_line, accept = new_line(), ",".join(request.headers.get_all("Accept")).encode("latin-1", "replace")
        fields, body = Refusal(status, _why(self)).answer(accept, id_of(id_line))
        headers = Headers()
        for name, value in (pair_of(date_line()), pair_of(id_line), *fields):
            headers[name.decode().title()] = value.decode()
        headers["Sec-WebSocket-Version"] = VERSION
        if status == 426:
            headers["Upgrade"] = "websocket"  # RFC 9110 section 15.5.22
        headers["Connection"] = "close, Upgrade" if status == 426 else "close"
        return Response(status, HTTPStatus(status).phrase, headers, body)


def _note_refused(handshake: ServerProtocol, response: Response, client: str | None) -> None:
    status, request_id = response.status_code, response.headers.get("X-Request-Id")
    metrics.request("-", status, 0.0)
    LOG.info("request.refused", status=status, why=_why(handshake), client=client, request_id=request_id)


def _received(kind: str, data: Any) -> Any:
    """ASGI. Raises UnicodeDecodeError."""
    if kind == "text":
        return {"type": "websocket.receive", "text": str(data, "utf-8")}
    return {"type": "websocket.receive", "bytes": bytes(data)}


def _why(handshake: ServerProtocol) -> str:
    return f"this is no handshake of a WebSocket: {handshake.handshake_exc}"[:_MAX_DETAIL]
