"""One request and its answer."""

from __future__ import annotations

import asyncio
import re
import select
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from sluice.http.date import date_line
from sluice.http.fields import EXPECT
from sluice.http.negotiation import accepted_by
from sluice.http.problem import FAILED
from sluice.http.request_id import id_of, new_line
from sluice.http.server.exchange import CLIENT_GONE, Exchange
from sluice.http.server.head import STATUS_LINES, RequestHead, problem
from sluice.http.server.sending import reset_when_closed
from sluice.observe.log import Log
from sluice.process.cache import Cache

if TYPE_CHECKING:
    from sluice.http.server.flow import FlowControl
    from sluice.http.server.protocol import ServerProtocol

_JOINED: Final = 4 * 1024
"""Bytes of a body up to which copying it behind its head is cheaper than handing over both."""
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_IN_VALUE: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))

LOG: Final = Log("gateway")


class Cycle(Exchange):
    """One request and its answer, to be had in two ways: as ASGI (`scope`, `receive`, `send`), or directly (`begin`,
    `write`), which costs less and is exact about the bytes.

    An HTTP/1.0 client gets no chunks but an answer that ends with the connection (RFC 9112 section 6.1), a 204 no
    Content-Length, a 304 that of the body it leaves out (RFC 9110 section 8.6). What the server has to say itself is
    problem+json.
    """

    # What most requests never change stays with the class: making one is part of every request.
    more_body = False
    """More of the request's body is to come."""
    body: bytes | bytearray = b""
    """What has come of it and nobody has received."""
    response_started = False
    response_complete = False
    task: asyncio.Task[None] | None = None
    _receivable = True
    """Something has come that was not received: the end of a body that is not there, too."""
    _arrival: asyncio.Event | None = None
    """The same, once somebody has waited for it."""
    waits_for_100_continue = False
    _chunked = False
    _bodiless = False
    _held = b""
    """The head of the answer, until it is written."""
    _left: int | None = 0
    """Bytes of the answer still to come, None: nobody knows."""
    _on_disconnect: Callable[[], object] | None = None
    _on_reset: Callable[[], object] | None = None

    def __init__(self, connection: ServerProtocol, head: RequestHead) -> None:
        self.head = head
        self.transport: asyncio.Transport = connection.transport
        self.keep_alive = head.keeps_alive
        self._connection = connection

    @property
    def client(self) -> tuple[str, int] | None:
        return self._connection.client

    @property
    def server(self) -> tuple[str, int | None] | None:
        return self._connection.server

    @property
    def listener(self) -> str:
        return self._connection.listener

    @property
    def scheme(self) -> str:
        return self._connection.scheme or "http"

    # --- the request

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        if self.disconnected:
            callback()
        else:
            self._on_disconnect = callback

    def on_reset(self, callback: Callable[[], object]) -> None:
        self._on_reset = callback

    def has_hung_up(self) -> bool:
        wire = self.transport.get_extra_info("socket")
        if self.disconnected or wire is None or not hasattr(select, "POLLRDHUP"):
            return self.disconnected
        number = wire.fileno()
        if number < 0:
            return True
        poll = select.poll()
        poll.register(number, select.POLLRDHUP)
        return bool(poll.poll(0))

    async def receive(self) -> Any:
        """ASGI. `100 Continue` is said when the body is first asked for."""
        if self.waits_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waits_for_100_continue = False
            self._flow.wanted()
        if not self.disconnected and not self.response_complete:
            if self.more_body or self.body:
                self._flow.resume_reading()
            if not self._receivable:
                self._arrival = self._arrival or asyncio.Event()
                await self._arrival.wait()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        self._receivable = False
        if self._arrival is not None:
            self._arrival.clear()
        body, self.body = bytes(self.body), b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def scope(self) -> dict[str, Any]:
        """ASGI."""
        connection, head = self._connection, self.head
        path, _, query = head.target.partition(b"?")
        decoded = path.decode("utf-8", "replace")
        return {
            "type": "http",
            "asgi": {"version": connection.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1" if head.current else "1.0",
            "server": connection.server,
            "client": connection.client,
            "scheme": connection.scheme,
            "root_path": "",
            "headers": [(field.key, field.value) for field in head.fields.all],
            "state": connection.app_state.copy(),
            "method": head.method.decode("ascii"),
            "path": unquote(decoded) if "%" in decoded else decoded,
            "raw_path": path,
            "query_string": query,
        }

    # --- the answer, directly

    def inform(self, status: int, lines: Sequence[bytes]) -> None:
        if self.head.current and not self.response_started and not self.disconnected:
            self.transport.write(b"".join((STATUS_LINES[status], *lines, b"\r\n")))

    def begin(
        self, status: int, lines: Sequence[bytes], length: int | None, body: bytes = b"", *, more: bool = True
    ) -> None:
        if self.disconnected:
            return
        self._open(status, lines, length, said_close=False)
        if body or not more:
            self.write(body, more=more)
        else:
            self._flush()

    def write(self, body: bytes, *, more: bool) -> None:
        if self.disconnected:
            return
        if self._bodiless:
            body = b""
        self.bytes_out += len(body)
        if self._bodiless:
            pass
        elif self._chunked:
            self._write_chunk(body, more)
        else:
            if self._left is not None:
                self._left -= len(body)
                if self._left < 0 or (self._left and not more):
                    raise RuntimeError("the body is not as long as its Content-Length")
            if body:
                self._write(body)
        if not more:
            self._complete()
        else:
            self._connection.watch_written()

    @property
    def blocked(self) -> bool:
        return self._flow.write_paused and not self.disconnected

    async def drain(self) -> None:
        await self._flow.drain()

    # --- the answer, as ASGI

    async def send(self, message: Any) -> None:
        if self.blocked:
            await self.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.response_started and kind == "http.response.start":
            self._begin_asgi(message["status"], message.get("headers", ()))
        elif self.response_started and not self.response_complete and kind == "http.response.body":
            self.write(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind!r} does not come now")

    def _begin_asgi(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The head waits for the first of the body, which saves a system call; not longer than to the loop's turn."""
        length: int | None = None
        said_close = dated = False
        lines: list[bytes] = []
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
            elif prefix == b"connection: " and b"close" in value.lower():
                said_close, self.keep_alive = True, False
            elif prefix == b"date: ":
                dated = True
            lines.append(b"%b%b\r\n" % (prefix, value))
            values.append(value)
        if b"".join(values).translate(None, _IN_VALUE):
            raise RuntimeError("a control character in a header")  # RFC 9110 section 5.5
        if not dated:
            lines.append(date_line())
        self._open(status, lines, length, said_close=said_close)
        self._connection.loop.call_soon(self._flush)

    # --- how it is written

    def _open(self, status: int, lines: Sequence[bytes], length: int | None, *, said_close: bool) -> None:
        bodiless = self._bodiless = self.head.method == b"HEAD" or status in (204, 304)
        last = b"\r\n"
        if length is None and not bodiless:
            if self.head.current:
                self._chunked = True
                last = b"transfer-encoding: chunked\r\n\r\n"
            else:
                self._end_by_closing()
        if not self.keep_alive and not said_close:
            last = b"connection: close\r\n" + last
        elif self.keep_alive and not self.head.current:
            last = b"connection: keep-alive\r\n" + last  # RFC 9112 appendix C.2.2
        self._left = 0 if bodiless else length
        self.response_started = True
        self.waits_for_100_continue = False
        self._held = b"".join([STATUS_LINES[status], *lines, *self.extra_lines, self.id_line, last])

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held and not self.disconnected:
            self.transport.write(held)

    def _write(self, body: bytes) -> None:
        held, self._held = self._held, b""
        if not held:
            self.transport.write(body)
        elif len(body) <= _JOINED:
            self.transport.write(held + body)
        else:
            self.transport.writelines((held, body))

    def _write_chunk(self, body: bytes, more: bool) -> None:
        if body:
            self._write(b"%x\r\n%b\r\n%b" % (len(body), body, b"" if more else b"0\r\n\r\n"))
        elif not more:
            self._write(b"0\r\n\r\n")

    def _end_by_closing(self) -> None:
        """Until all was sent, closing resets the connection: else an answer that ends early would look complete."""
        self.keep_alive = False
        reset_when_closed(self.transport, True)

    def _complete(self) -> None:
        if self._held:
            self._flush()
        self.response_complete = True
        self._on_disconnect = None
        if self._arrival is not None:
            self.notify()
        if not self.keep_alive:
            if self._left is None and not self._chunked:
                reset_when_closed(self.transport, False)
            self._connection.close()
        self._connection.on_response_complete()

    def abort(self) -> None:
        """Ends an answer early, so that it does not look complete (RFC 9112 section 8): what was written stays."""
        self._flush()
        self.transport.close()

    # --- called by the connection

    @property
    def _flow(self) -> FlowControl:
        return self._connection.flow

    def notify(self) -> None:
        """Wakes whoever waits in `receive`."""
        self._receivable = True
        if self._arrival is not None:
            self._arrival.set()

    def expect_body(self) -> None:
        self.more_body, self._receivable = True, False
        self.waits_for_100_continue = self.head.current and bool(self.head.fields.kinds & EXPECT)

    def add_body(self, body: bytes) -> None:
        self.waits_for_100_continue = False  # RFC 9110 section 10.1.1: it does not wait for that
        self.bytes_in += len(body)
        if not self.body:
            self.body = body
        elif isinstance(self.body, bytearray):
            self.body += body
        else:
            self.body = bytearray(self.body + body)

    def disconnect(self, why: str | None = None, status: int = CLIENT_GONE) -> None:
        """The client is gone, or its request turned out to be broken: then with this status."""
        self.disconnected = True
        if why is not None:
            self.why_gone, self.gone_status = why, status
        self.notify()
        callback, self._on_disconnect = self._on_disconnect, None
        if callback is not None:
            callback()

    def reset(self) -> None:
        """The client is gone, and has not read all of its answer."""
        callback, self._on_reset = self._on_reset, None
        if callback is not None:
            callback()

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """What answers this request, to its end. What it leaves open is broken off."""
        try:
            await work
        except BaseException as error:  # noqa: BLE001 (nothing behind us would report it)
            LOG.error("request.failed", exception=error, request_id=id_of(self.id_line))
        if not self.response_complete and not self.disconnected:
            self._break_off()
        if self.task is not None:
            self._connection.tasks.discard(self.task)
            self.task = None

    def _break_off(self) -> None:
        if self.response_started:
            self.abort()
            return
        self.response_started = self.response_complete = True
        self.keep_alive = False
        accept = accepted_by(self.head.fields)
        self.transport.write(problem(FAILED.status, FAILED.detail, self.id_line or new_line(), accept))
        self._connection.close()
        self._connection.on_response_complete()


_prefixes: Final[Cache[bytes, bytes]] = Cache(256 * 2**10)


def _field_prefix(name: bytes) -> bytes:
    known = _prefixes.get(name)
    if known is not None:
        return known
    if not _TOKEN.fullmatch(name):
        raise RuntimeError("not a header name")
    return _prefixes.keep(name, name.lower() + b": ", 2 * len(name))
