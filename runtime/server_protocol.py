"""uvicorn's HTTP/1.1 connection, made strict, bounded and exact.

uvicorn hands bytes to its parser as they come, and so never sees where a request begins. Here the bytes are cut first:

    at a head ──> sized body ─┐
       │  └─────> chunks ─────┤
       │                      ├──> at a head again, or over (`Connection: close`, HTTP/1.0, refused)
       └──────────────────────┘

A head goes to the parser whole, when it has all come and its request line and size are right; a second one is not
looked at before the first is answered. Whatever can be read in two ways is refused, as problem+json, and the
connection closed. What the parser checks itself (names, values, line ends, Content-Length, chunk sizes) is left to it.

In the scope's `extensions` is, beside what ASGI knows:

`sluice.target`         bytes: path and query as they came (`/a?` keeps its `?`). Of an absolute form, what follows the
                        authority: what an origin is to be sent (RFC 9112 section 3.2.1).
`sluice.on_disconnect`  a function that takes the one callback (no arguments) to be called if the client goes before
                        its answer is complete; at once, if it has gone already. Then no task need wait in `receive`.

What `serve` does not use is not here: root_path, limit_concurrency, access log, default headers, reset_contextvars.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
import orjson
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from runtime import metrics
from runtime.logs import Log

MOST_HEAD = 64 * 1024
MOST_FIELDS = 256
MOST_TARGET = 16 * 1024
HEAD_WITHIN = 30.0
"""Seconds from the first byte of a head to its last."""
_LINGER = 2.0
"""Seconds a client may go on sending after a refusal: closed at once, the kernel would reset it unread."""
_MOST_OVERHEAD = 64 * 1024
"""Bytes of chunk extensions and trailers, beyond what chunks of their size need."""

_JOINED = 64 * 1024
"""Bytes of a body up to which copying it behind its head is cheaper than a second write."""

_MOST_HANDSHAKE_FIELDS, _LONGEST_HANDSHAKE_LINE = 120, 8000
"""Of the library that answers handshakes, a little less: beyond its own it would leave them unanswered."""

_AT_HEAD, _CHUNKS, _OVER = 0, -1, -2
"""Where a connection is; above 0: so many bytes of a sized body are still to come."""

_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.([01])\r\n")  # RFC 9112 section 3
_ANY_VERSION = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [!-~]+ HTTP/[0-9]\.[0-9]\r\n")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]*)?")  # RFC 9110 section 7.2
_ABSOLUTE = re.compile(rb"(https?)://([^/?]*)(.*)", re.IGNORECASE)
_UPGRADE_FIELD = re.compile(rb"(?<=\r\n)upgrade:[^\r\n]*\r\n", re.IGNORECASE)
_PORTS = {b"http": b":80", b"https": b":443"}
_TO_PARSER = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE"))
"""Methods the parser is told; it refuses those it does not know, and has its own ideas about CONNECT and SOURCE."""

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_IN_VALUE = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
_BODILESS = frozenset((204, 304))
_RESET = struct.pack("ii", 1, 0)
_NO_RESET = struct.pack("ii", 0, 0)

LOG = Log("gateway")


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class ServerProtocol(HttpToolsProtocol):
    """One connection of a client."""

    # Not called by the parser: all of this is known once a head was fed.
    on_message_begin = None  # type: ignore[assignment]
    on_url = None  # type: ignore[assignment]
    on_headers_complete = None  # type: ignore[assignment]

    cycle: Cycle

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.message_event = asyncio.Event()  # for one cycle after the other
        self._at = _AT_HEAD
        self._last = False  # no request is read after this one
        self._whole = False  # the parser has come to the end of a message
        self._in_head = False
        self._head = bytearray()  # what has come of a head
        self._ahead = bytearray()  # what has come after a request that is not answered yet
        self._chunk_end = b""  # the last bytes of chunks, which may begin the end of the message
        self._overhead = 0
        self._good_host: bytes | None = None  # the last one that was looked at
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.time() + self.timeout_keep_alive
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        cycle = self.cycle
        super().connection_lost(exc)
        if cycle is not None and not cycle.response_complete:
            cycle.leave()

    # --- reading

    def data_received(self, data: bytes) -> None:
        if self._ahead:
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
                    return
        except _Refused as refused:
            self._refuse(refused.status, str(refused))
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is not HTTP/1.1: {error}")

    def _wait_behind(self, data: bytes) -> None:
        """Pipelined requests are answered in their order (RFC 9112 section 9.3.2), so one is taken at a time."""
        self._ahead += data
        if len(self._ahead) > HIGH_WATER_LIMIT:
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
            _refuse_early(head, begun)
            if not waited:
                self._wait_for_head()
        return b""

    def _wait_for_head(self) -> None:
        self._stop_timer()
        self._deadline = self.loop.time() + HEAD_WITHIN
        self._timer = self.loop.call_later(HEAD_WITHIN, self._late)

    def _take_head(self, head: bytes) -> None:
        line = _LINE.match(head)
        if line is None:
            raise _bad_line(head)
        method, target, minor = line.groups()
        if len(target) > MOST_TARGET:
            raise _Refused(414, f"the target is over {MOST_TARGET} bytes")
        if len(head) > MOST_HEAD:
            raise _Refused(431, f"the head is over {MOST_HEAD} bytes")
        if method == b"CONNECT":
            raise _Refused(501, "CONNECT is not understood here")
        if method not in _TO_PARSER:
            head = b"POST" + head[len(method) :]
        try:
            self._feed_head(head)
        except httptools.HttpParserUpgrade:
            if self._wants_websocket(method, minor):
                self._start_websocket(method, target, minor)
                return
            self._feed_head(_UPGRADE_FIELD.sub(b"", head))  # ignored, as RFC 9110 section 7.8 has it
        self._start(method, target, minor)

    def _feed_head(self, head: bytes) -> None:
        self.headers = []
        self._in_head, self._whole = True, False
        try:
            self.parser.feed_data(head)
        finally:
            self._in_head = False

    def _start(self, method: bytes, target: bytes, minor: bytes) -> None:
        headers = self.headers
        fields = dict(headers)
        target = self._check(target, method, minor, fields)
        path, _, query = target.partition(b"?")
        connection = fields.get(b"connection")
        keep_alive = minor == b"1" and (connection is None or not _closes(headers))
        self._last = not keep_alive
        cycle = self.cycle = Cycle(self, method == b"HEAD", minor == b"0", keep_alive)
        decoded = path.decode("ascii")
        cycle.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1" if minor == b"1" else "1.0",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "headers": headers,
            "state": self.app_state.copy(),
            "method": method.decode("ascii"),
            "path": unquote(decoded) if "%" in decoded else decoded,
            "raw_path": path,
            "query_string": query,
            "extensions": {"sluice.target": target, "sluice.on_disconnect": cycle.on_disconnect},
        }
        if self._whole:
            self.message_event.set()
            self._end_message()
        else:
            self._expect_body(fields, minor)
        self._start_asgi_task(cycle, self.app)

    def _expect_body(self, fields: dict[bytes, bytes], minor: bytes) -> None:
        self.message_event.clear()
        self.cycle.more_body = True
        self.cycle.waiting_for_100_continue = minor == b"1" and b"expect" in fields
        length = fields.get(b"content-length")
        if length is None:
            self._at, self._chunk_end, self._overhead = _CHUNKS, b"", 0
        else:
            self._at = int(length)

    def _check(self, target: bytes, method: bytes, minor: bytes, fields: dict[bytes, bytes]) -> bytes:
        """What the proxy is to ask for. Raises _Refused for a head that could be read in two ways."""
        headers = self.headers
        if len(headers) > MOST_FIELDS:
            raise _Refused(431, f"there are over {MOST_FIELDS} fields")
        if len(fields) != len(headers):
            _refuse_repeated(headers)
        host = fields.get(b"host")
        if host is None or host != self._good_host:
            self._check_host(host, minor)
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (minor == b"0" or coding.lower() != b"chunked"):
            # RFC 9112 section 6.1: HTTP/1.0 has none, so the framing is faulty.
            raise _Refused(400, "the only transfer coding understood here is chunked, in HTTP/1.1")
        expect = fields.get(b"expect")
        if expect is not None and expect.lower() != b"100-continue":
            raise _Refused(417, "the only expectation understood here is 100-continue")  # RFC 9110 section 10.1.1
        if b"#" in target:
            raise _Refused(400, "a target has no fragment")  # RFC 9112 section 3.2
        if target[0] == 0x2F:
            return target
        return _other_form(target, method, host)

    def _check_host(self, host: bytes | None, minor: bytes) -> None:
        """RFC 9112 section 3.2."""
        if host is None:
            if minor == b"1":
                raise _Refused(400, "a request has exactly one Host header")
            return
        if not _HOST.fullmatch(host):
            raise _Refused(400, "the Host header is not a host")
        self._good_host = host

    def _wants_websocket(self, method: bytes, minor: bytes) -> bool:
        """RFC 6455 section 4.1. Beside a body, or of another kind, an upgrade is ignored."""
        fields = dict(self.headers)
        return (
            method == b"GET"
            and minor == b"1"
            and fields.get(b"upgrade", b"").lower() == b"websocket"
            and fields.get(b"content-length", b"0").strip(b"0") == b""
            and b"transfer-encoding" not in fields
        )

    def _start_websocket(self, method: bytes, target: bytes, minor: bytes) -> None:
        self.url = self._check(target, method, minor, dict(self.headers))
        if len(self.headers) > _MOST_HANDSHAKE_FIELDS or any(
            len(name) + len(value) > _LONGEST_HANDSHAKE_LINE for name, value in self.headers
        ):
            raise _Refused(431, "a WebSocket handshake has 128 fields of 8 KiB at most")
        self.scope = {"method": method.decode("ascii"), "headers": self.headers}  # type: ignore[typeddict-item]
        self._at = _OVER  # frames sent before the handshake was answered (RFC 6455 section 4.1) are passed over
        self._stop_timer()
        self.handle_websocket_upgrade()

    def _read_sized(self, data: bytes) -> bytes:
        piece, rest = (data, b"") if len(data) <= self._at else (data[: self._at], data[self._at :])
        self._at -= len(piece)
        self.parser.feed_data(piece)
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
        self.parser.feed_data(piece)
        if self._overhead > _MOST_OVERHEAD:
            raise _Refused(400, "there is too much beside the chunks' data")

    def _end_message(self) -> None:
        self._at = _OVER if self._last else _AT_HEAD
        cycle = self.cycle
        cycle.more_body = False
        if not cycle.response_complete:
            self.message_event.set()

    # --- what the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        """Trailers are dropped: none may become a header (RFC 9110 section 6.5.1)."""
        if self._in_head:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_body(self, body: bytes) -> None:
        self._overhead = max(0, self._overhead - 2 * len(body) - 16)
        cycle = self.cycle
        if cycle.response_complete or cycle.disconnected:
            return
        cycle.take(body)
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.message_event.set()

    def on_message_complete(self) -> None:
        self._whole = True

    # --- answering

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._deadline = self.loop.time() + self.timeout_keep_alive
        self.flow.resume_reading()
        if self._ahead:
            ahead, self._ahead = bytes(self._ahead), bytearray()
            self._read(ahead)

    def close(self) -> None:
        """After the last answer."""
        if self._at == _AT_HEAD or (self._at == _OVER and not self.cycle.more_body):
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
        if in_body:
            if cycle.response_started:
                cycle.cut()
            cycle.leave()
            if cycle.response_started:
                return
        self.transport.write(_problem(status, detail))
        self._close_when_read()

    # --- waiting

    def _late(self) -> None:
        now = self.loop.time()
        self._timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._deadline = now + self.timeout_keep_alive
        elif now + 0.01 >= self._deadline:
            if self._head:
                self._refuse(408, f"the head took longer than {HEAD_WITHIN:g} seconds")
            else:
                self.transport.close()
            return
        self._timer = self.loop.call_at(self._deadline, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Cycle(RequestResponseCycle):
    """One request and its answer.

    Unlike uvicorn's: an HTTP/1.0 client gets no chunks but an answer that ends with the connection (RFC 9112 section
    6.1), a 204 no Content-Length, a 304 that of the body it leaves out (RFC 9110 section 8.6), and what the server has
    to say itself is problem+json.
    """

    def __init__(self, connection: ServerProtocol, head_only: bool, old: bool, keep_alive: bool) -> None:
        self.scope: Any = None
        self.transport: asyncio.Transport = connection.transport
        self.flow: FlowControl = connection.flow
        self.message_event = connection.message_event
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = False
        self.body: bytes | bytearray = b""  # type: ignore[assignment]
        self.more_body = False
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding = False
        self._connection = connection
        self._held = b""  # the head of the answer, until it is written
        self._head_only = head_only
        self._old = old
        self._left: int | None = 0  # bytes of the answer still to come, None: nobody knows
        self._bodiless = False
        self._on_leave: Callable[[], object] | None = None

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        """The one callback for when the client goes before its answer is complete."""
        if self.disconnected:
            callback()
        else:
            self._on_leave = callback

    def cut(self) -> None:
        """An answer that is cut must not look complete (RFC 9112 section 8): what was said stays, no end follows."""
        self._flush()
        self.transport.close()

    def leave(self) -> None:
        """The client is gone, or its request turned out to be broken."""
        self.disconnected = True
        self.message_event.set()
        callback, self._on_leave = self._on_leave, None
        if callback is not None:
            callback()

    def take(self, body: bytes) -> None:
        self.waiting_for_100_continue = False  # RFC 9110 section 10.1.1: it does not wait for that
        if not self.body:
            self.body = body
        elif isinstance(self.body, bytearray):
            self.body += body
        else:
            self.body = bytearray(self.body + body)

    async def run_asgi(self, app: Any) -> None:
        scope, self.scope = self.scope, None  # the scope knows us: no circle
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:  # noqa: BLE001 (there is nobody behind us to tell)
            LOG.error("request.failed", exception=error)
        if not self.response_complete and not self.disconnected:
            self._break_off()

    def _break_off(self) -> None:
        if self.response_started:
            self.cut()
            return
        self.response_started = self.response_complete = True
        self.keep_alive = False
        self.transport.write(_problem(500, "the request could not be answered"))
        self._connection.close()
        self._connection.on_response_complete()

    async def receive(self) -> Any:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            if self.more_body or self.body:
                self.flow.resume_reading()
            await self.message_event.wait()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        self.message_event.clear()
        body, self.body = bytes(self.body), b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.response_started and kind == "http.response.start":
            self._send_head(message["status"], message.get("headers", ()))
        elif self.response_started and not self.response_complete and kind == "http.response.body":
            self._send_body(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind!r} does not come now")

    def _send_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        bodiless = self._bodiless = self._head_only or status in _BODILESS
        length: int | None = None
        said_close = False
        pieces = [STATUS_LINE[status]]
        values: list[bytes] = []
        for name, value in headers:
            prefix = _field_prefix(name)
            if prefix == b"content-length: ":
                if length is not None:
                    raise RuntimeError("two Content-Lengths")
                length = int(value)
                if status == 204:
                    continue
            elif prefix == b"transfer-encoding: ":
                continue
            elif prefix == b"connection: " and _closes(((b"connection", value),)):
                said_close, self.keep_alive = True, False
            pieces += (prefix, value, b"\r\n")
            values.append(value)
        if length is None and not bodiless:
            if self._old:
                self._end_by_closing()
            else:
                self.chunked_encoding = True
                pieces.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive and not said_close:
            pieces.append(b"connection: close\r\n")
        pieces.append(b"\r\n")
        if b"".join(values).translate(None, _IN_VALUE):
            raise RuntimeError("a control character in a header")  # RFC 9110 section 5.5
        self._left = 0 if bodiless else length
        self.response_started = True
        self.waiting_for_100_continue = False
        self._held = b"".join(pieces)
        self._connection.loop.call_soon(self._flush)

    def _flush(self) -> None:
        """The head goes with the first of the body, which saves a system call; alone if that does not come at once."""
        held, self._held = self._held, b""
        if held and not self.disconnected:
            self.transport.write(held)

    def _write(self, body: bytes) -> None:
        if not self._held:
            self.transport.write(body)
        elif len(body) <= _JOINED:
            held, self._held = self._held, b""
            self.transport.write(held + body)
        else:
            self._flush()
            self.transport.write(body)

    def _end_by_closing(self) -> None:
        """Until all was sent, closing resets: else a cut would look like the end."""
        self.keep_alive = False
        self._set_linger(_RESET)

    def _set_linger(self, how: bytes) -> None:
        wire = self.transport.get_extra_info("socket")
        if wire is not None and wire.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)

    def _send_body(self, body: bytes, more: bool) -> None:
        if self._bodiless:
            pass
        elif self.chunked_encoding:
            self._send_chunk(body, more)
        else:
            if self._left is not None:
                self._left -= len(body)
                if self._left < 0 or (self._left and not more):
                    raise RuntimeError("the body is not as long as its Content-Length")
            if body:
                self._write(body)
        if not more:
            self._complete()

    def _send_chunk(self, body: bytes, more: bool) -> None:
        if body:
            self._write(b"%x\r\n%b\r\n%b" % (len(body), body, b"" if more else b"0\r\n\r\n"))
        elif not more:
            self._write(b"0\r\n\r\n")

    def _complete(self) -> None:
        if self._held:
            self._flush()
        self.response_complete = True
        self._on_leave = None
        self.message_event.set()
        if not self.keep_alive:
            if self._left is None and not self.chunked_encoding:
                self._set_linger(_NO_RESET)
            self._connection.close()
        self._connection.on_response_complete()


def _refuse_early(head: bytearray, begun: int) -> None:
    """A head that has not all come, from byte `begun` on: nothing that is wrong already is waited for."""
    if _BARE_LF.search(head, max(0, begun - 1)):
        raise _Refused(400, "this is not HTTP/1.1: a line ends with CR LF")
    if head[0] < 0x21 and head != b"\r":
        raise _Refused(400, "this is not HTTP/1.1: a request begins with a method")
    first = head.find(b"\n")
    if first < 0:
        if len(head) > MOST_TARGET + 256:
            raise _Refused(414, f"the target is over {MOST_TARGET} bytes")
    elif first >= begun and not _LINE.match(head):
        raise _bad_line(head)
    if len(head) > MOST_HEAD:
        raise _Refused(431, f"the head is over {MOST_HEAD} bytes")


def _bad_line(head: bytes | bytearray) -> _Refused:
    if _ANY_VERSION.match(head):
        return _Refused(505, "only HTTP/1.1 and HTTP/1.0 are understood here")
    return _Refused(400, "a request begins with `METHOD target HTTP/1.1`")


def _refuse_repeated(headers: list[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in headers]
    if names.count(b"host") > 1:
        raise _Refused(400, "a request has exactly one Host header")
    if names.count(b"content-length") + names.count(b"transfer-encoding") > 1:
        raise _Refused(400, "the length of the body is given more than once")
    if names.count(b"expect") > 1:
        raise _Refused(417, "the only expectation understood here is 100-continue")


def _other_form(target: bytes, method: bytes, host: bytes | None) -> bytes:
    """`*`, or path and query of an absolute form (RFC 9112 section 3.2.2, 3.2.4)."""
    if target == b"*":
        if method != b"OPTIONS":
            raise _Refused(400, "the target * is for OPTIONS alone")
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _HOST.fullmatch(absolute[2]):
        raise _Refused(400, "the target is neither a path nor an http URL")
    port = _PORTS[absolute[1].lower()]
    if host is not None and _without(port, absolute[2]) != _without(port, host):
        raise _Refused(400, "the target and the Host header name different hosts")
    rest: bytes = absolute[3]
    return rest if rest.startswith(b"/") else b"/" + rest


def _without(port: bytes, authority: bytes) -> bytes:
    return authority.lower().removesuffix(port).removesuffix(b":")


def _closes(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        token.strip(b" \t").lower() == b"close"
        for name, value in headers
        if name == b"connection"
        for token in value.split(b",")
    )


@lru_cache(maxsize=1024)
def _field_prefix(name: bytes) -> bytes:
    if not _TOKEN.fullmatch(name):
        raise RuntimeError("not a header name")
    return name.lower() + b": "


def _problem(status: int, detail: str) -> bytes:
    """A whole answer as RFC 9457 has it."""
    title = HTTPStatus(status).phrase
    body = orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return STATUS_LINE[
        status
    ] + b"content-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        len(body),
        body,
    )
