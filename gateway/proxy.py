"""Asking an upstream and giving its answer to the client, byte for byte and streamed both ways."""

from __future__ import annotations

import asyncio
import math
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from gateway.guard import Refused, UpstreamGuard
from gateway.problems import Receive, Refusal, Send
from gateway.request import ClientGone, Head, Pairs, connection_tokens
from runtime import http1
from runtime.policies import Upstream

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_BODILESS = frozenset((204, 304))
_UPSTREAM_FAILS = frozenset((502, 503, 504))  # a 500 is one request's failure, not the upstream's


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is sent to an upstream. `body` None: streamed from the client as it comes."""

    head: Head
    headers: Pairs
    body: bytes | None


class Downstream:
    """The client's side of one exchange: its body goes out as it comes, and its leaving cuts the connection upstream.

    The server tells of the leaving by a callback (`sluice.on_disconnect`). Where there is a body to stream, or a server
    without that, a task listens instead.
    """

    __slots__ = ("_connection", "_listener", "_receive", "_register", "gone")

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive) -> None:
        self.gone = False
        self._receive = receive
        self._register = scope.get("extensions", {}).get("sluice.on_disconnect")
        self._connection: http1.Connection | None = None
        self._listener: asyncio.Task[None] | None = None

    def follow(self, connection: http1.Connection, *, streaming: bool) -> None:
        """From now on it is this connection that the client's body goes to, and that its leaving cuts."""
        self._connection = connection
        if streaming or self._register is None:
            self._listener = asyncio.create_task(self._listen(connection, streaming))
        elif not self.gone:
            self._register(self._left)

    def release(self) -> None:
        self._connection = None
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None

    def _left(self) -> None:
        self.gone = True
        if self._connection is not None:
            self._connection.abort()

    async def _listen(self, connection: http1.Connection, sending: bool) -> None:
        try:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self._left()
                    return
                if sending:
                    await connection.send_body(message.get("body", b""))
                    if not message.get("more_body"):
                        connection.end_body()
                        sending = False
        except (http1.UpstreamError, http1.BadBody):
            return  # whoever awaits the response learns of it, or of an early answer


class Exchange:
    """A request that was answered: `response` is there to be given on. Closing it cuts what is unfinished."""

    __slots__ = ("_client", "_connection", "response")

    def __init__(self, connection: http1.Connection, client: Downstream, response: http1.Response) -> None:
        self.response = response
        self._connection = connection
        self._client = client

    def close(self) -> None:
        self._client.release()
        self._connection.abort()


class UpstreamPools:
    """The connections to one upstream, or to one worker. `guard`: leaves the upstream alone while it fails."""

    def __init__(self, upstream: Upstream, guard: UpstreamGuard | None = None) -> None:
        self.upstream = upstream
        self._guard = guard
        self._pool = http1.Pool(http1.Origin.of(upstream.url), connect=upstream.connect)
        self._base = http1.base_path(upstream.url)

    async def ask(self, outgoing: Outgoing, client: Downstream) -> Exchange:
        """Sends the request and waits for the head of the answer.

        Sent once more where that is safe and the kept connection turned out to be closed. Raises UpstreamError,
        ClientGone, or Refusal: 400 for what cannot be sent, 503 while the guard says no.
        """
        if self._guard is None:
            return await self._ask(outgoing, client)
        admission = self._guard.admit()
        if isinstance(admission, Refused):
            wait = b"%d" % max(1, math.ceil(admission.retry_after))
            raise Refusal(503, f"{self.upstream.name} fails and is left alone for a moment", retry_after=wait)
        try:
            exchange = await self._ask(outgoing, client)
            if exchange.response.status in _UPSTREAM_FAILS:
                admission.failed(f"answered {exchange.response.status}")
            else:
                admission.succeeded()
            return exchange
        except http1.PoolExhausted:
            raise  # our own limit
        except http1.UpstreamError as error:
            admission.failed(str(error))
            raise
        finally:
            admission.abandoned()

    async def _ask(self, outgoing: Outgoing, client: Downstream) -> Exchange:
        head, body = outgoing.head, outgoing.body
        framing = _framing(outgoing)
        headers = outgoing.headers
        if framing.field:
            headers = [pair for pair in headers if pair[0] != b"content-length"]
        target = self._base + head.target if self._base else head.target
        fresh = False
        while True:
            if client.gone:
                raise ClientGone
            connection = await self._pool.acquire(fresh=fresh)
            try:
                connection.send_head(head.method.encode(), target, headers, framing, body or b"")
                client.follow(connection, streaming=body is None and framing is not http1.NO_BODY)
                return Exchange(connection, client, await connection.response(self.upstream.headers))
            except BaseException as error:
                client.release()
                connection.abort()
                if isinstance(error, http1.BadHead):
                    raise Refusal(400, str(error)) from None
                if client.gone and isinstance(error, http1.UpstreamError):
                    raise ClientGone from None
                if fresh or not (isinstance(error, http1.UpstreamReset) and _may_repeat(outgoing, connection, error)):
                    raise
            fresh = True

    async def close(self) -> None:
        await self._pool.close()


def _framing(outgoing: Outgoing) -> http1.Framing:
    head, body = outgoing.head, outgoing.body
    if body is None:
        if head.chunked:
            return http1.CHUNKED
        return http1.NO_BODY if head.length is None else http1.stated(head.length)
    if head.length is not None:
        return http1.stated(len(body))
    return http1.sized(len(body)) if head.chunked else http1.NO_BODY


def _may_repeat(outgoing: Outgoing, connection: http1.Connection, reset: http1.UpstreamReset) -> bool:
    """A kept connection may have been closed just as we took it; only what is safe to repeat is sent again."""
    whole = outgoing.body is not None or not (outgoing.head.chunked or outgoing.head.length)
    return connection.reused and not reset.response_started and whole and outgoing.head.method in _REPEATABLE


async def give(response: http1.Response, idle: float, send: Send) -> bool:
    """Streams the answer to the client. False when the upstream broke it off: then the client's connection is cut too.

    `idle`: the longest silence in seconds within the body. Raises BadResponse for a status that HTTP does not have.
    """
    if response.status > 599:
        raise http1.BadResponse("a status over 599", response_started=True)
    headers = _end_to_end(response.headers, response.status)
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    while True:
        try:
            chunk = await response.chunk(idle)
        except http1.UpstreamError:
            return False
        more = not response.complete
        await send({"type": "http.response.body", "body": chunk, "more_body": more})
        if not more:
            return True


def _end_to_end(headers: Pairs, status: int) -> Pairs:
    dropped = _HOP_BY_HOP
    if status in _BODILESS:
        dropped = dropped | {b"content-length"}  # a 304 may tell that of the body it leaves out
    for name, value in headers:
        if name.lower() == b"connection":
            listed = connection_tokens(value)
            if not listed <= dropped:
                dropped = dropped | listed
    return [pair for pair in headers if pair[0].lower() not in dropped]


def refusal_for(error: http1.UpstreamError, name: str) -> Refusal:
    """An upstream is only ever named by its name in the policies."""
    match error:
        case http1.ConnectTimeout() | http1.HeadTimeout():
            return Refusal(504, f"{name} did not answer in time")
        case http1.PoolExhausted():
            return Refusal(503, f"all connections to {name} are busy", retry_after=b"1")
        case http1.ConnectFailed():
            return Refusal(502, f"{name} cannot be reached")
        case _:
            return Refusal(502, f"{name} broke off before it answered")
