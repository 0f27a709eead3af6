"""Asking an upstream and giving its answer to the client, byte for byte and streamed both ways."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.problems import Receive, Refusal, Send
from gateway.request import ClientGone, Head, Pairs
from runtime import http1
from runtime.policies import Upstream

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
_BODILESS = frozenset((204, 304))
_NOT_FORWARDED = frozenset((b"content-length",))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What is sent to an upstream. `body` None: streamed from the client as it comes."""

    head: Head
    headers: Pairs
    body: bytes | None


class UpstreamPools:
    """The connections to one upstream, or to one worker."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._pool = http1.Pool(http1.Origin.of(upstream.url), connect=upstream.connect)
        self._base = http1.base_path(upstream.url)

    @asynccontextmanager
    async def ask(self, outgoing: Outgoing, receive: Receive) -> AsyncIterator[http1.Response]:
        """The head of the answer; what is unfinished when the block is left is cut.

        A client that leaves cancels the exchange. Raises UpstreamError, ClientGone.
        """
        try:
            connection = await self._send(outgoing, fresh=False)
            async with _client_heard(connection, outgoing, receive) as client:
                try:
                    response = await connection.response(self.upstream.headers)
                except http1.UpstreamReset as reset:
                    if client.gone or not _may_repeat(outgoing, connection, reset):
                        raise
                    response = None
                if response is not None:
                    with connection:
                        yield response
                    return
            connection = await self._send(outgoing, fresh=True)
            async with _client_heard(connection, outgoing, receive):
                response = await connection.response(self.upstream.headers)
                with connection:
                    yield response
        except http1.BadHead as error:
            raise Refusal(400, str(error)) from None

    async def _send(self, outgoing: Outgoing, *, fresh: bool) -> http1.Connection:
        head = outgoing.head
        framing = _framing(outgoing)
        headers = [pair for pair in outgoing.headers if pair[0] not in _NOT_FORWARDED or not framing.field]
        connection = await self._pool.acquire(fresh=fresh)
        try:
            connection.send_head(head.method.encode(), self._base + head.target, headers, framing, outgoing.body or b"")
        except BaseException:
            connection.abort()
            raise
        return connection

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


@dataclass(slots=True)
class _Client:
    gone: bool = False


@asynccontextmanager
async def _client_heard(connection: http1.Connection, outgoing: Outgoing, receive: Receive) -> AsyncIterator[_Client]:
    """While the block runs, the client's body goes out as it comes, and the client's leaving cuts the connection."""
    client = _Client()

    async def hear() -> None:
        sending = outgoing.body is None
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    client.gone = True
                    connection.abort()
                    return
                if sending:
                    await connection.send_body(message.get("body", b""))
                    if not message.get("more_body"):
                        connection.end_body()
                        sending = False
        except (http1.UpstreamError, http1.BadBody):
            return  # whoever awaits the response learns of it, or of an early answer

    listener = asyncio.create_task(hear())
    try:
        yield client
    except http1.UpstreamError:
        if client.gone:
            raise ClientGone from None
        raise
    finally:
        listener.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await listener


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
        await send({"type": "http.response.body", "body": chunk, "more_body": bool(chunk)})
        if not chunk:
            return True


def _end_to_end(headers: Pairs, status: int) -> Pairs:
    dropped = _HOP_BY_HOP | {
        token.strip().lower() for name, value in headers if name.lower() == b"connection" for token in value.split(b",")
    }
    if status in _BODILESS:
        dropped |= {b"content-length"}  # a 304 may tell that of the body it leaves out; uvicorn would wait for it
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
