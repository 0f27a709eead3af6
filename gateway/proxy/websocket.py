"""WebSockets: passed on message by message between a client, whose side uvicorn speaks, and an upstream.

The rules, each with a test of its name in `tests/gateway/proxy/test_websocket.py`:

1.  Nothing is opened upstream before a handshake has passed everything that a request passes; what refuses it is an
    answer in plain HTTP. So is what the upstream refuses it with.
2.  The target goes out byte for byte, the end-to-end headers in their order; the handshake's own are made anew on
    either side, so the two sides need not speak the same extensions. We offer an upstream none.
3.  Messages arrive whole, in their order, as text or binary. At most a few of them wait here; then whoever sends
    waits too. One that is not taken for `idle` seconds ends the connection.
4.  What a side closes with is what the other is closed with. A side that vanishes is never reported as a clean end:
    the client reads 1011, the upstream 1001.
5.  A connection may be quiet for as long as both sides answer pings; one that does not is gone after 40 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from gateway.metrics import upstream_answered, upstream_failed
from gateway.policies import Trust, Upstream
from gateway.problems import ClientGone, Receive, Refusal, Send, answer, answer_refusal
from gateway.proxy.circuit import UpstreamCircuit
from gateway.proxy.upstream import admit, judge, outcome_of, refusal_for
from gateway.request import Head, Pairs, head_of
from gateway.workers.prefixes import Prefixes
from sluice.http import client as http1
from sluice.http.client.connect import Refuse, connect_any
from sluice.http.fields import CONTENT_LENGTH, HOST
from sluice.http.server import Refused, head_of_scope, metrics
from sluice.observe.log import Log

LOG = Log("gateway")

# Seconds. A dead upstream is found out after the first two and the last together: 40. uvicorn, which pings the client,
# takes as long for a dead one.
PING_EVERY = 20.0
PING_WITHIN = 15.0
IDLE_AT_LEAST = 60.0
CLOSED_WITHIN = 5.0

_MOST = 16 * 1024 * 1024  # bytes of a message; what uvicorn takes from a client at most
_MAX_DENIED = 64 * 1024
_QUEUED = 2  # messages; each may have `_MOST` bytes
_CLIENT_GONE = 499
_MISDIRECTED = 421

_EMPTY, _VANISHED = 1005, 1006  # codes that are never sent (RFC 6455 §7.4.1)
_GOING_AWAY, _INTERNAL_ERROR, _RESTART = 1001, 1011, 1012

_MADE_ANEW = HOST | CONTENT_LENGTH
_HANDSHAKE = b"sec-websocket-"
_HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding"))
_ABOUT_THE_ANSWER = _HOP_BY_HOP | {b"content-length", b"upgrade"}

Message = MutableMapping[str, Any]
T = TypeVar("T")


@dataclass(slots=True)
class WebSocketLogEntry:
    """What is counted and logged of one connection."""

    route: str = "-"
    client: str = "-"
    event: str | None = None
    session: str | None = None
    limit: str | None = None
    why: str | None = None
    status: int = 0
    code: int | None = None
    ended_by: str | None = None
    from_client: int = 0
    from_upstream: int = 0
    started: float = field(default_factory=time.perf_counter)

    def answered(self, status: int) -> None:
        """The handshake has been answered; counted now, for a connection may last for days."""
        self.status = status
        metrics.request(self.route, status, time.perf_counter() - self.started)

    def write(self, path: str) -> None:
        LOG.info(
            "websocket",
            path=path,
            route=self.route,
            status=self.status,
            code=self.code,
            ended_by=self.ended_by,
            seconds=round(time.perf_counter() - self.started, 3),
            from_client=self.from_client,
            from_upstream=self.from_upstream,
            client=self.client,
            event=self.event,
            session=self.session,
            limit=self.limit,
            why=self.why,
        )


@dataclass(frozen=True, slots=True)
class _End:
    """Who ended the connection, and with what."""

    by: Literal["client", "upstream", "gateway"]
    code: int
    reason: str = ""


class Destination(Protocol):
    """Where connections of a route lead."""

    async def proxy(
        self, head: Head, offered: Sequence[str], receive: Receive, send: Send, entry: WebSocketLogEntry
    ) -> None:
        """Until both sides are closed. Raises Refusal, Denied or ClientGone, all before anything was answered."""


Open = Callable[[MutableMapping[str, Any], WebSocketLogEntry], Awaitable[tuple[Head, Destination]]]


async def serve(scope: MutableMapping[str, Any], receive: Receive, send: Send, open_upstream: Open) -> None:
    """One connection, from handshake to close. `open_upstream` says where to, or raises Refusal."""
    entry = WebSocketLogEntry()
    try:
        await receive()  # websocket.connect
        head, upstream = await open_upstream(scope, entry)
        await upstream.proxy(head, scope["subprotocols"], receive, send, entry)
    except Refusal as refusal:
        entry.why = refusal.detail
        entry.answered(refusal.status)
        async with _denying(receive, send) as denial:
            await answer_refusal(denial, refusal)
    except _Denied as denied:
        entry.answered(denied.answer.status_code)
        async with _denying(receive, send) as denial:
            await _pass_on(denied.answer, denial)
    except ClientGone:
        entry.answered(_CLIENT_GONE)
    finally:
        entry.write(scope["path"])


def read_handshake(scope: MutableMapping[str, Any], trust: Trust, prefixes: Prefixes | None) -> Head:
    """The head of a handshake, as of the GET that it is. Raises Refusal for one that can be read in two ways."""
    scheme = {"ws": "http", "wss": "https"}[scope["scheme"]]
    try:
        head = head_of_scope(scope)
    except Refused as refused:
        raise Refusal(refused.status, str(refused)) from None
    peer, server = scope["client"], scope["server"]
    return head_of(head, peer and peer[0], scheme, (server and server[1]) or 0, trust, prefixes)


class _Denied(Exception):
    """The upstream refuses the handshake, with this answer."""

    def __init__(self, answer: Response) -> None:
        super().__init__()
        self.answer = answer


class WebSocketUpstream:
    """Opens connections to one upstream. `refuse` says to which addresses of its name none is opened."""

    def __init__(self, upstream: Upstream, circuit: UpstreamCircuit | None, refuse: Refuse | None = None) -> None:
        self._upstream = upstream
        self._circuit = circuit
        self._refuse = refuse
        self._origin = http1.Origin.of(upstream.url)
        self._base = http1.base_path(upstream.url)
        self._tls = ssl.create_default_context() if self._origin.scheme == "https" else None

    async def proxy(
        self, head: Head, offered: Sequence[str], receive: Receive, send: Send, entry: WebSocketLogEntry
    ) -> None:
        """As `Destination` has it."""
        await self._proxy(self._connection(head, offered), receive, send, entry)

    async def _proxy(self, connection: _Connection, receive: Receive, send: Send, entry: WebSocketLogEntry) -> None:
        first = asyncio.ensure_future(receive())
        try:
            await _while_there(first, self._open(connection))
            await _accept(send, connection)
            entry.answered(101)
            pipe = _Pipe(connection, receive, send, entry, max(self._upstream.idle, IDLE_AT_LEAST))
            await pipe.run(first)
        finally:
            first.cancel()
            connection.abort()

    def _connection(self, head: Head, offered: Sequence[str], more: Pairs | None = None) -> _Connection:
        """`more`: fields of ours beside the client's."""
        path, _, query = (self._base + head.target).decode("ascii").partition("?")
        uri = WebSocketURI(bool(self._tls), self._origin.host, self._origin.port, path, query)
        subprotocols = [Subprotocol(name) for name in offered if name]
        return _Connection(_Handshake(uri, _for_upstream(head) + (more or []), subprotocols))

    async def _open(self, connection: _Connection) -> None:
        assert self._circuit is not None
        admission, began = admit(self._circuit, self._upstream.name), time.perf_counter()
        try:
            await self._connect(connection)
            await self._shake_hands(connection)
            admission.succeeded()
            upstream_answered(self._upstream.name, 101, time.perf_counter() - began)
        except http1.UpstreamError as error:
            admission.failed(str(error))
            upstream_failed(self._upstream.name, outcome_of(error))
            raise refusal_for(error, self._upstream.name) from None
        except _Denied as denied:
            judge(admission, denied.answer.status_code)
            upstream_answered(self._upstream.name, denied.answer.status_code, time.perf_counter() - began)
            raise
        finally:
            admission.abandoned()

    async def _connect(self, connection: _Connection) -> None:
        origin, loop = self._origin, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._upstream.connect):
                if self._refuse is None:
                    await loop.create_connection(lambda: connection, origin.host, origin.port, ssl=self._tls)
                else:
                    await connect_any(lambda: connection, origin, self._tls, self._refuse)
        except TimeoutError:
            raise http1.ConnectTimeout("no connection in time") from None
        except (OSError, UnicodeError) as error:
            raise http1.ConnectFailed("no connection") from error

    async def _shake_hands(self, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(self._upstream.headers):
                await connection.handshake(user_agent_header=None)
        except TimeoutError:
            raise http1.HeadTimeout("no answer in time") from None
        except InvalidStatus as error:
            if error.response.status_code < 200:
                raise http1.BadResponse("an interim answer, or another protocol") from None
            raise _Denied(error.response) from None
        except (ConnectionClosed, InvalidHandshake) as error:
            raise http1.BadResponse("not the answer of a WebSocket server") from error
        connection.start_keepalive()


class NotTheOne(Exception):
    """The worker does not run the session, or cannot be reached."""


class WorkerWebSocket(WebSocketUpstream):
    """One connection to a worker, which has no circuit. `more`: fields of ours beside the client's."""

    def __init__(self, worker: str, upstream: Upstream, more: Pairs, refuse: Refuse) -> None:
        super().__init__(upstream, None, refuse)
        self._worker = worker
        self._more = more
        self._now: _Connection | None = None

    async def proxy(
        self, head: Head, offered: Sequence[str], receive: Receive, send: Send, entry: WebSocketLogEntry
    ) -> None:
        """As `Destination` has it. Raises NotTheOne, too."""
        self._now = self._connection(head, offered, self._more)
        await self._proxy(self._now, receive, send, entry)

    def moved(self) -> None:
        """Another worker has the session: both sides are closed, the client with 1012, so that it connects again."""
        if self._now is not None:
            self._now.ended_by_us = _End("gateway", _RESTART, "another worker has the session")
            self._now.abort()

    async def _open(self, connection: _Connection) -> None:
        try:
            await self._connect(connection)
            await self._shake_hands(connection)
        except (http1.ConnectFailed, http1.ConnectTimeout):
            raise NotTheOne from None
        except http1.UpstreamError as error:
            raise refusal_for(error, f"worker {self._worker}") from None
        except _Denied as denied:
            if denied.answer.status_code == _MISDIRECTED:
                raise NotTheOne from None
            raise


class _Handshake(ClientProtocol):
    """Asks with the client's own target and headers instead of those made from a URI."""

    def __init__(self, uri: WebSocketURI, pairs: Pairs, subprotocols: list[Subprotocol]) -> None:
        super().__init__(uri, subprotocols=subprotocols or None, max_size=_MOST)
        self._pairs = pairs

    def connect(self) -> Request:
        made = super().connect()
        headers = Headers()
        for name, value in self._pairs:
            headers[name.decode("ascii")] = value.decode("latin-1")
        for key, text in made.headers.raw_items():
            if key != "Host":
                headers[key] = text
        return Request(made.path, headers)


class _Connection(ClientConnection):
    """Leaves as soon as there is nothing more to be said, where the library waits for the other side."""

    ended_by_us: _End | None = None
    """Why it was aborted while both sides were content."""

    def __init__(self, protocol: ClientProtocol) -> None:
        super().__init__(
            protocol,
            ping_interval=PING_EVERY,
            ping_timeout=PING_WITHIN,
            close_timeout=CLOSED_WITHIN,
            max_queue=_QUEUED,
        )

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.close_rcvd is not None or self.protocol.parser_exc is not None:
            self.transport.close()
        elif self.protocol.handshake_exc is not None:
            self.transport.abort()

    async def close_with(self, code: int | None, reason: str) -> None:
        """The closing handshake, also without a code. Returns when the connection is closed, in 5 seconds at most."""

        async def say() -> None:
            async with self.send_context():
                self.protocol.send_close(code, reason)

        async def discard() -> None:
            while True:  # unread messages would stop the reading, and the answer is behind them
                await self.recv(decode=False)

        async with _ending(discard()):
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with asyncio.timeout(CLOSED_WITHIN):
                    await say()

    def abort(self) -> None:
        """Whatever state it is in, even before it was connected."""
        transport: asyncio.Transport | None = getattr(self, "transport", None)
        if transport is not None:
            transport.abort()


@dataclass(frozen=True, slots=True)
class _Pipe:
    """Passes messages both ways until one side ends it. `idle`: how many seconds one may wait to be taken."""

    connection: _Connection
    receive: Receive
    send: Send
    entry: WebSocketLogEntry
    idle: float

    async def run(self, first: Awaitable[Message]) -> None:
        """`first`: the client's first message, already awaited by others."""
        end = await self._passing(first)
        self.entry.code, self.entry.ended_by = end.code, end.by
        code = None if end.code == _EMPTY else end.code
        async with asyncio.TaskGroup() as both:
            if end.by != "upstream":
                both.create_task(self.connection.close_with(_GOING_AWAY if code == _VANISHED else code, end.reason))
            if end.by != "client":
                both.create_task(self._close_client(_INTERNAL_ERROR if code == _VANISHED else code, end.reason))

    async def _passing(self, first: Awaitable[Message]) -> _End:
        async with (
            _ending(self._from_client(first)) as from_client,
            _ending(self._from_upstream()) as from_upstream,
        ):
            await asyncio.wait({from_client, from_upstream}, return_when=asyncio.FIRST_COMPLETED)
            if not from_client.done():
                end = await from_upstream
                if end is not None:
                    return end
                await asyncio.wait({from_client}, timeout=CLOSED_WITHIN)
            return from_client.result() if from_client.done() else _End("client", _VANISHED)

    async def _from_client(self, first: Awaitable[Message]) -> _End:
        """The client's messages, and its end."""
        message = await first
        while message["type"] != "websocket.disconnect":
            text = message.get("text")
            # When the upstream is gone, what it said before is still given to the client: `_from_upstream` ends this.
            with contextlib.suppress(ConnectionClosed):
                try:
                    async with asyncio.timeout(self.idle):
                        await self.connection.send(message["bytes"] if text is None else text)
                except TimeoutError:
                    return _End("gateway", _INTERNAL_ERROR, "the upstream takes no messages")
                self.entry.from_client += 1
            message = await self.receive()
        return _client_end(message)

    async def _from_upstream(self) -> _End | None:
        """The upstream's messages, and its end. None when the client is gone, which `_from_client` knows more about."""
        while True:
            try:
                message = await self.connection.recv()
            except ConnectionClosed as closed:
                return self.connection.ended_by_us or _upstream_end(closed)
            kind = "text" if isinstance(message, str) else "bytes"
            try:
                async with asyncio.timeout(self.idle):
                    await self.send({"type": "websocket.send", kind: message})
            except TimeoutError:
                return _End("gateway", _GOING_AWAY, "the client takes no messages")
            except (OSError, RuntimeError):  # RuntimeError: uvicorn itself has closed it
                return None
            self.entry.from_upstream += 1

    async def _close_client(self, code: int | None, reason: str) -> None:
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(CLOSED_WITHIN):
                try:
                    # None, which ASGI does not know, is what uvicorn closes without a code for.
                    await self.send({"type": "websocket.close", "code": code, "reason": reason})
                except TypeError:  # what hypercorn raises for it
                    await self.send({"type": "websocket.close", "reason": reason})


def _client_end(message: Message) -> _End:
    """uvicorn gives a reason, if only an empty one, for the close frames it was sent, and none for what it made up."""
    code = message.get("code", _EMPTY)
    if "reason" in message or code not in (_EMPTY, _VANISHED, _RESTART):
        return _End("client", code, message.get("reason") or "")
    if code == _RESTART:
        return _End("gateway", code)
    return _End("client", _VANISHED)


def _upstream_end(closed: ConnectionClosed) -> _End:
    if closed.rcvd is not None and closed.rcvd_then_sent:
        return _End("upstream", closed.rcvd.code, closed.rcvd.reason)
    return _End("upstream", _VANISHED, "the upstream broke off")


async def _while_there(first: asyncio.Future[Message], opening: Coroutine[Any, Any, None]) -> None:
    """Raises what `opening` raises, or ClientGone when the client leaves before."""
    async with _ending(opening) as task:
        both: set[asyncio.Future[Any]] = {first, task}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if first.done() and first.result()["type"] == "websocket.disconnect":
            raise ClientGone
        await task


async def _accept(send: Send, connection: _Connection) -> None:
    assert connection.response is not None
    headers = _for_client(connection.response, _HANDSHAKE)
    try:
        await send({"type": "websocket.accept", "subprotocol": connection.subprotocol, "headers": headers})
    except OSError:
        raise ClientGone from None


async def _pass_on(denied: Response, denial: Send) -> None:
    """The upstream's own refusal, with its body."""
    status, headers, body = denied.status_code, _for_client(denied, b"sec-websocket-accept"), bytes(denied.body)
    if len(body) > _MAX_DENIED:
        why = b"refused by the upstream, in more words than are passed on here (64 KiB)\n"
        await answer(denial, status, why, b"text/plain", [])
        return
    await denial({"type": "http.response.start", "status": status, "headers": headers})
    await denial({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def _denying(receive: Receive, send: Send) -> AsyncIterator[Send]:
    """Sends an HTTP answer as the denial of a WebSocket (an extension of ASGI, which uvicorn has)."""

    async def renamed(message: Message) -> None:
        await send({**message, "type": message["type"].replace("http.", "websocket.http.", 1)})

    with contextlib.suppress(OSError, TimeoutError):
        yield renamed
        async with asyncio.timeout(CLOSED_WITHIN):
            # uvicorn logs an error for each denial whose connection is not closed yet when we return. It tells of the
            # end twice: when it has written the denial, and when the connection is closed.
            await receive()
            await receive()


def _for_upstream(head: Head) -> Pairs:
    """Host first, as received; then what is end to end, and ours."""
    fields = head.forwarded()
    host = [field for field in fields if field.kind == HOST]
    rest = [field for field in fields if not (field.kind & _MADE_ANEW or field.key.startswith(_HANDSHAKE))]
    return [(field.name, field.value) for field in host + rest]


def _for_client(response: Response, handshake: bytes) -> Pairs:
    """The end-to-end headers of an answer, without those of the `handshake`."""
    pairs = [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.headers.raw_items()]
    listed = {
        token.strip().lower() for name, value in pairs if name.lower() == b"connection" for token in value.split(b",")
    }
    dropped = _ABOUT_THE_ANSWER | listed
    return [pair for pair in pairs if pair[0].lower() not in dropped and not pair[0].lower().startswith(handshake)]


@contextlib.asynccontextmanager
async def _ending(doing: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """A task that does not outlive the block."""
    task = asyncio.create_task(doing)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # looked at, so that nobody is warned of it
