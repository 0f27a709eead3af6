"""One WebSocket of a client, from its handshake to its end, or the answer that refuses it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from websockets.http11 import Response

from gateway.policies import Trust
from gateway.problems import ClientGone, Receive, Refusal, Send, answer, answer_refusal
from gateway.proxy.websocket import times
from gateway.proxy.websocket.client_side import ClientSide
from gateway.proxy.websocket.end import Message
from gateway.proxy.websocket.headers import for_client
from gateway.proxy.websocket.log_entry import WebSocketLogEntry
from gateway.proxy.websocket.upstream import Denied
from gateway.request import Head, head_of
from gateway.workers.prefixes import Prefixes
from sluice.http.fields import pair_of
from sluice.http.server import Refused, head_of_scope, listener_of
from sluice.http.via import Via
from sluice.http.websocket import WebSocketLimits

_MAX_DENIED = 64 * 1024
_CLIENT_GONE = 499


class Destination(Protocol):
    """Where connections of a route lead."""

    async def proxy(self, client: ClientSide) -> None:
        """Until both sides are closed. Raises Refusal, Denied or ClientGone, all before anything was answered."""


Open = Callable[[MutableMapping[str, Any], WebSocketLogEntry], Awaitable[tuple[Head, Destination]]]


async def serve(
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    open_upstream: Open,
    limits: WebSocketLimits,
    *,
    combined: bool,
) -> None:
    """One connection, from handshake to close. `open_upstream` says where to, or raises Refusal. `combined`: how it is
    logged."""
    entry = WebSocketLogEntry(scope["path"])
    try:
        await receive()  # websocket.connect
        head, upstream = await open_upstream(scope, entry)
        await upstream.proxy(ClientSide(head, scope["subprotocols"], receive, send, entry, limits))
    except Refusal as refusal:
        entry.why = refusal.why
        entry.answered(refusal.status)
        async with _denying(receive, send) as denial:
            await answer_refusal(denial, refusal, scope["headers"], entry.id_line)
    except Denied as denied:
        entry.answered(denied.answer.status_code)
        async with _denying(receive, send) as denial:
            await _pass_on(denied.answer, denial, entry.id_line)
    except ClientGone:
        entry.answered(_CLIENT_GONE)
    finally:
        entry.write(combined=combined)


def read_handshake(scope: MutableMapping[str, Any], trust: Trust, via: Via, prefixes: Prefixes | None) -> Head:
    """The head of a handshake, as of the GET that it is. Raises Refusal for one that can be read in two ways."""
    scheme = {"ws": "http", "wss": "https"}[scope["scheme"]]
    try:
        head = head_of_scope(scope)
    except Refused as refused:
        raise Refusal(refused.status, str(refused)) from None
    peer = scope["client"]
    return head_of(head, peer and peer[0], scheme, trust, via, prefixes, listener_of(scope))


async def _pass_on(denied: Response, denial: Send, id_line: bytes) -> None:
    """The upstream's own refusal, with its body."""
    status, headers, body = denied.status_code, for_client(denied, b"sec-websocket-accept"), bytes(denied.body)
    if len(body) > _MAX_DENIED:
        why = b"refused by the upstream, in more words than are passed on here (64 KiB)\n"
        await answer(denial, status, why, b"text/plain", [pair_of(id_line)])
        return
    await denial({"type": "http.response.start", "status": status, "headers": [*headers, pair_of(id_line)]})
    await denial({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def _denying(receive: Receive, send: Send) -> AsyncIterator[Send]:
    """Sends an HTTP answer as the denial of a WebSocket (an extension of ASGI, which uvicorn has)."""

    async def renamed(message: Message) -> None:
        await send({**message, "type": message["type"].replace("http.", "websocket.http.", 1)})

    with contextlib.suppress(OSError, TimeoutError):
        yield renamed
        async with asyncio.timeout(times.CLOSED_WITHIN):
            # uvicorn logs an error for each denial whose connection is not closed yet when we return. It tells of the
            # end twice: when it has written the denial, and when the connection is closed.
            await receive()
            await receive()
