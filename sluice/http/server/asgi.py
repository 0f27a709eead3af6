"""A request that another ASGI server has read: its head as strictly as ours, its answer streamed message by message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from sluice.http.fields import pair_of
from sluice.http.negotiation import accepted_by
from sluice.http.problem import FAILED, Refusal
from sluice.http.request_id import id_of, new_line
from sluice.http.server.bounds import ClientBounds
from sluice.http.server.exchange import LISTENER, Exchange
from sluice.http.server.head import RequestHead, read_head
from sluice.http.server.refused import BrokenOff
from sluice.observe.log import Log

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOG: Final = Log("gateway")
_IN_A_PATH: Final = "/!$&'()*+,;=:@-._~%"


def target_of(scope: Message) -> bytes:
    """Path and query, byte for byte where the server tells them so, below the prefix the application is mounted at."""
    path: bytes = scope.get("raw_path") or quote(scope["path"], safe=_IN_A_PATH).encode()
    prefix: str = scope.get("root_path", "")
    if prefix:
        path = _below(prefix.encode(), path)
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


def listener_of(scope: Message) -> str:
    """The name of the listener that the connection came to; empty: not known."""
    name: str = scope.get("state", {}).get(LISTENER, "")
    return name


def head_of_scope(scope: Message) -> RequestHead:
    """The head, written down as HTTP/1.1 and read by the same rules as one from a socket. Raises Refused."""
    method = scope.get("method", "GET").encode()
    version = b"1.0" if scope.get("http_version") == "1.0" else b"1.1"
    lines = b"".join([b"%b: %b\r\n" % (name, value) for name, value in scope["headers"]])
    return read_head(b"%b %b HTTP/%b\r\n%b\r\n" % (method, target_of(scope), version, lines))


class AsgiExchange(Exchange):
    """Of any ASGI server. What `begin` and `write` are given waits for `drain`; `run` leaves nothing behind."""

    def __init__(
        self, scope: Message, receive: Receive, send: Send, head: RequestHead, bounds: ClientBounds | None = None
    ) -> None:
        """Of `bounds` only that of a body counts: all else is between the client and its server."""
        self.head = head
        self._pause = (bounds or ClientBounds()).body
        self._scope = scope
        self._receive = receive
        self._send = send
        self._first: Message | None = None  # of the body, looked at before it is asked for
        self._body_received = head.length == 0
        self._started = False
        self._complete = False
        self._unsent: list[Message] = []
        self._callback: Callable[[], object] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def client(self) -> tuple[str, int] | None:
        peer = self._scope.get("client")
        return (peer[0], peer[1]) if peer else None

    @property
    def server(self) -> tuple[str, int | None] | None:
        server = self._scope.get("server")
        return (server[0], server[1]) if server else None

    @property
    def listener(self) -> str:
        return listener_of(self._scope)

    @property
    def scheme(self) -> str:
        scheme: str = self._scope.get("scheme", "http")
        return scheme

    # --- the request

    async def look_for_body(self) -> None:
        """HTTP/2 and later need neither Content-Length nor a transfer coding to send a body."""
        if self.head.length != 0 or self._scope.get("http_version") in ("1.0", "1.1"):
            return
        first = self._first = await self._receive()
        if first["type"] == "http.request" and (first.get("body") or first.get("more_body")):
            self.head.length = None
            self._body_received = False

    async def receive(self) -> Any:
        if self.disconnected:
            return {"type": "http.disconnect"}
        message, self._first = self._first or await self._next(), None
        if message["type"] == "http.disconnect":
            self._disconnect()
            return message
        more, body = bool(message.get("more_body")), message.get("body", b"")
        self.bytes_in += len(body)
        if not more:
            self._body_received = True
            self._watch_if_wanted()
        return {"type": "http.request", "body": body, "more_body": more}

    async def _next(self) -> Message:
        """A client that stalls within its body is taken for one that has gone, as no server tells of it."""
        if self._body_received:
            return await self._receive()
        try:
            async with asyncio.timeout(self._pause):
                return await self._receive()
        except TimeoutError:
            self.why_gone = f"no more of the body came for {self._pause:g} seconds (clients.body)"
            self.gone_status = 408
            return {"type": "http.disconnect"}

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        if self.disconnected:
            callback()
            return
        self._callback = callback
        self._watch_if_wanted()

    def _watch_if_wanted(self) -> None:
        """Only `receive` tells of a client that goes, and nobody else may wait in it meanwhile."""
        if self._callback is not None and self._body_received and self._watch is None:
            self._watch = asyncio.create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._complete:
            self._disconnect()

    def _disconnect(self) -> None:
        self.disconnected = True
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    # --- the answer

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *map(pair_of, self._our_lines())]
            self._add({**message, "headers": headers})
        else:
            self._add(message)
        await self.drain()

    def begin(
        self, status: int, lines: Sequence[bytes], length: int | None, body: bytes = b"", *, more: bool = True
    ) -> None:
        headers = [pair_of(line) for line in (*lines, *self._our_lines())]
        self._add({"type": "http.response.start", "status": status, "headers": headers})
        if body or not more:
            self.write(body, more=more)

    def write(self, body: bytes, *, more: bool) -> None:
        self._add({"type": "http.response.body", "body": body, "more_body": more})

    def _our_lines(self) -> list[bytes]:
        return [*self.extra_lines, self.id_line] if self.id_line else [*self.extra_lines]

    def _add(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = True
        else:
            self.bytes_out += len(message.get("body", b""))
            if not message.get("more_body"):
                self._complete = True
                self._callback = None
        self._unsent.append(message)

    @property
    def blocked(self) -> bool:
        return bool(self._unsent) and not self.disconnected

    async def drain(self) -> None:
        while self._unsent and not self.disconnected:
            message = self._unsent.pop(0)
            try:
                await self._send(message)
            except OSError:  # what a server may raise for a client that is gone
                self._disconnect()

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """What answers this request, to its end. Raises BrokenOff for an answer whose end must not look like one."""
        try:
            await self.look_for_body()
            await work
            await self.drain()
        except Exception as error:  # noqa: BLE001 (only the server is behind us)
            LOG.error("request.failed", exception=error, request_id=id_of(self.id_line))
            await self._say(FAILED.status, FAILED.detail)
        finally:
            if self._watch is not None:
                self._watch.cancel()
        if self.why_gone is not None:
            await self._say(self.gone_status, self.why_gone)
        if not self._complete and not self.disconnected:
            raise BrokenOff

    async def _say(self, status: int, detail: str) -> None:
        if self._started:
            return
        self._started = self._complete = True
        id_line = self.id_line or new_line()
        headers, body = Refusal(status, detail).answer(accepted_by(self.head.fields), id_of(id_line))
        start = {"type": "http.response.start", "status": status, "headers": [*headers, pair_of(id_line)]}
        with contextlib.suppress(OSError):
            await self._send(start)
            await self._send({"type": "http.response.body", "body": body})


def _below(prefix: bytes, path: bytes) -> bytes:
    """The path without the prefix, of which a byte may be percent-encoded; a path that is not below it as it is."""
    at = 0
    for expected in prefix:
        if path[at : at + 1] == b"%" and (byte := _byte(path[at + 1 : at + 3])) is not None:
            at += 3
        elif at < len(path):
            byte = path[at]
            at += 1
        else:
            return path
        if byte != expected:
            return path
    if at == len(path):
        return b"/"
    return path[at:] if path[at : at + 1] in (b"/", b"%") else path


def _byte(digits: bytes) -> int | None:
    try:
        return int(digits, 16) if len(digits) == 2 else None
    except ValueError:
        return None
