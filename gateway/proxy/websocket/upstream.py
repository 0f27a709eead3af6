"""Opens WebSockets to an upstream, or to the worker that has a session."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Coroutine
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidHeader, InvalidStatus, InvalidUpgrade
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from gateway.metrics import upstream_answered, upstream_failed
from gateway.policies import Upstream
from gateway.problems import ClientGone, Refusal, Send
from gateway.proxy.circuit import UpstreamCircuit
from gateway.proxy.tls import context_of
from gateway.proxy.upstream import admitted, outcome_of, refusal_for
from gateway.proxy.verdict import says_that_it_fails
from gateway.proxy.websocket import times
from gateway.proxy.websocket.client_side import ClientSide
from gateway.proxy.websocket.connection import Connection, Handshake
from gateway.proxy.websocket.end import RESTART, End, Message
from gateway.proxy.websocket.headers import HANDSHAKE, for_client, for_upstream, pairs_of
from gateway.proxy.websocket.pipe import Pipe
from gateway.proxy.websocket.tasks import ending
from gateway.request import Pairs
from sluice.http import client as http1
from sluice.http.client.causes import in_words
from sluice.http.client.connect import Refuse, connect
from sluice.http.client.connection import address_text
from sluice.http.fields import pair_of
from sluice.process import files

_MISDIRECTED = 421


class Denied(Exception):
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
        self._tls = context_of(upstream)

    async def proxy(self, client: ClientSide) -> None:
        """As `Destination` has it."""
        await self._proxy(self._connection(client), client)

    async def _proxy(self, connection: Connection, client: ClientSide) -> None:
        first, entry, began = asyncio.ensure_future(client.receive()), client.entry, time.perf_counter()
        try:
            await _while_there(first, self._open(connection))
            entry.upstream = address_text(connection.remote_address)
            entry.upstream_seconds = time.perf_counter() - began
            await _accept(client.send, connection, entry.id_line)
            entry.answered(101)
            await Pipe(connection, client, max(self._upstream.idle, times.IDLE_AT_LEAST)).run(first)
        finally:
            first.cancel()
            connection.abort()

    def _connection(self, client: ClientSide, more: Pairs | None = None) -> Connection:
        """`more`: fields of ours beside the client's."""
        path, _, query = (self._base + client.head.target).decode("ascii").partition("?")
        uri = WebSocketURI(bool(self._tls), self._origin.host, self._origin.port, path, query)
        subprotocols = [Subprotocol(name) for name in client.offered if name]
        pairs = for_upstream(client.head) + (more or [])
        return Connection(Handshake(uri, pairs, subprotocols, client.limits.message), client.limits)

    async def _open(self, connection: Connection) -> None:
        assert self._circuit is not None
        admission, began = await admitted(self._circuit, self._upstream.name), time.perf_counter()
        try:
            await self._reach(connection)
            admission.succeeded()
            upstream_answered(self._upstream.name, 101, time.perf_counter() - began)
        except http1.UpstreamError as error:
            admission.failed(str(error))
            upstream_failed(self._upstream.name, outcome_of(error))
            raise refusal_for(error, self._upstream.name) from None
        except Denied as denied:
            status = denied.answer.status_code
            if self._says_that_it_fails(denied):
                admission.failed(f"answered {status}")
            else:
                admission.succeeded()
            upstream_answered(self._upstream.name, status, time.perf_counter() - began)
            raise
        finally:
            admission.abandoned()

    def _says_that_it_fails(self, denied: Denied) -> bool:
        status = denied.answer.status_code
        return status in self._upstream.fails or says_that_it_fails(status, pairs_of(denied.answer))

    async def _reach(self, connection: Connection) -> None:
        """Raises UpstreamError or Denied."""
        await self._connect(connection, self._origin, self._tls)
        await self._shake_hands(connection)

    async def _connect(self, connection: Connection, origin: http1.Origin, tls: ssl.SSLContext | None) -> None:
        try:
            async with asyncio.timeout(self._upstream.connect):
                await connect(lambda: connection, origin, tls, self._refuse)
        except TimeoutError:
            raise http1.ConnectTimeout(f"no connection to {origin} within {self._upstream.connect:g} s") from None
        except (OSError, UnicodeError) as error:
            if isinstance(error, OSError) and error.errno in files.NO_MORE:
                raise _no_files() from None
            raise http1.ConnectFailed(f"no connection to {origin}: {in_words(error)}") from error
        if files.is_reserved(connection.transport):
            raise _no_files()

    async def _shake_hands(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(self._upstream.headers):
                await connection.handshake(user_agent_header=None)
        except TimeoutError:
            raise http1.HeadTimeout(f"no answer to the handshake within {self._upstream.headers:g} s") from None
        except InvalidStatus as error:
            if error.response.status_code < 200:
                raise http1.BadResponse("an interim answer, or another protocol") from None
            raise Denied(error.response) from None
        except (ConnectionClosed, InvalidHandshake) as error:
            raise http1.BadResponse(f"not the answer of a WebSocket server: {_rule(error)}") from error
        connection.start_keepalive()


def _rule(error: Exception) -> str:
    """Which one it has broken. What it said itself may be a secret."""
    match error:
        case ConnectionClosed():
            return "it closed the connection"
        case InvalidUpgrade():
            return "it switches to another protocol"
        case InvalidHeader():
            return f"its {error.name} is wrong"
    return "it is not HTTP/1.1"


class NotTheOne(Exception):
    """The worker does not run the session, or cannot be reached."""


class WorkerWebSocket(WebSocketUpstream):
    """One connection to a worker, which has no circuit. `more`: fields of ours beside the client's."""

    def __init__(self, worker: str, upstream: Upstream, more: Pairs, refuse: Refuse) -> None:
        super().__init__(upstream, None, refuse)
        self._worker = worker
        self._more = more
        self._now: Connection | None = None

    async def proxy(self, client: ClientSide) -> None:
        """As `Destination` has it. Raises NotTheOne, too."""
        self._now = self._connection(client, self._more)
        await self._proxy(self._now, client)

    def moved(self) -> None:
        """Another worker has the session: both sides are closed, the client with 1012, so that it connects again."""
        if self._now is not None:
            self._now.ended_by_us = End("gateway", RESTART, "another worker has the session")
            self._now.abort()

    async def _open(self, connection: Connection) -> None:
        try:
            await self._reach(connection)
        except (http1.ConnectFailed, http1.ConnectTimeout):
            raise NotTheOne from None
        except http1.UpstreamError as error:
            raise refusal_for(error, f"worker {self._worker}") from None
        except Denied as denied:
            if denied.answer.status_code == _MISDIRECTED:
                raise NotTheOne from None
            raise


async def _while_there(first: asyncio.Future[Message], opening: Coroutine[Any, Any, None]) -> None:
    """Raises what `opening` raises, or ClientGone when the client leaves before."""
    async with ending(opening) as task:
        both: set[asyncio.Future[Any]] = {first, task}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if first.done() and first.result()["type"] == "websocket.disconnect":
            raise ClientGone
        await task


async def _accept(send: Send, connection: Connection, id_line: bytes) -> None:
    assert connection.response is not None
    headers = [*for_client(connection.response, HANDSHAKE), pair_of(id_line)]
    try:
        await send({"type": "websocket.accept", "subprotocol": connection.subprotocol, "headers": headers})
    except OSError:
        raise ClientGone from None


def _no_files() -> Refusal:
    return Refusal(503, "too many files are open here for one more WebSocket", retry_after=b"5")
