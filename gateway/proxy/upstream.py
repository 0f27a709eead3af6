"""Asking an upstream and giving its answer to the client, byte for byte and streamed both ways."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway import metrics
from gateway.client_ip import Client
from gateway.policies import Upstream
from gateway.policies.routes import UNLIMITED
from gateway.problems import ClientGone, Refusal, too_large
from gateway.proxy.circuit import Admission, Refused, UpstreamCircuit
from gateway.proxy.quota import without_the_looser
from gateway.proxy.shares import ShareRule, Shares
from gateway.proxy.tls import context_of
from gateway.proxy.verdict import says_that_it_fails
from gateway.request import Head
from sluice.http import client as http1
from sluice.http.client.connect import Refuse
from sluice.http.fields import (
    CONNECTION,
    CONTENT_LENGTH,
    HOP_BY_HOP,
    QUOTA,
    REQUEST_ID,
    TRANSFER_ENCODING,
    UPGRADE,
    Field,
)
from sluice.http.server import Exchange

REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2."""
_NOT_FOR_THE_CLIENT: Final = CONNECTION | HOP_BY_HOP | TRANSFER_ENCODING | UPGRADE | REQUEST_ID
_NOT_IN_INTERIM: Final = _NOT_FOR_THE_CLIENT | CONTENT_LENGTH
OF_GATEWAYS: Final = frozenset((502, 504))
"""What we answer ourselves, too: the log says whose it is."""
_monotonic: Final = time.monotonic


@dataclass(slots=True, init=False)
class UpstreamRequest:
    """What is sent to an upstream. `body` None: streamed from the client as it comes."""

    head: Head
    body: bytes | None = None
    more: Sequence[Field] = ()
    """Ours, beside what is forwarded."""
    within: http1.Deadlines | None = None
    """So long the head of the answer may take once the request has been sent whole; None: as long as of all requests to
    this upstream."""
    idle: http1.Deadlines | None = None
    """So long the upstream may take nothing of the request, or pause within its answer; None: the same."""
    most: int = UNLIMITED
    """Bytes of a streamed body; one in chunks that turns out longer is refused."""

    def __init__(
        self,
        head: Head,
        body: bytes | None = None,
        more: Sequence[Field] = (),
        within: http1.Deadlines | None = None,
        idle: http1.Deadlines | None = None,
        most: int = UNLIMITED,
    ) -> None:
        self.head = head
        self.body = body
        self.more = more
        self.within = within
        self.idle = idle
        self.most = most

    def framing(self) -> http1.Framing:
        length = self.head.length
        if self.body is None:
            return http1.CHUNKED if length is None else http1.stated(length)
        if length is None:
            return http1.sized(len(self.body))
        return http1.stated(len(self.body))

    def first_bytes(self, base: bytes, framing: http1.Framing) -> bytes:
        """The head, of lines that were read strictly: nothing in it has to be looked at again."""
        head = self.head
        lines = [field.line for field in head.forwarded()]
        if self.more:
            lines += [field.line for field in self.more]
        lines.append(head.id_line)
        if framing.field:
            lines.append(framing.field + b"\r\n")
        return b"%b %b%b HTTP/1.1\r\n%b\r\n" % (head.method.encode(), base, head.target, b"".join(lines))


class Downstream:
    """The client's side of one exchange: its body goes out as it comes, and its leaving cuts the connection upstream.

    The server tells of the leaving by a callback; only a body that is streamed, or is more than the upstream takes at
    once, takes a task. `cut` False: its leaving changes nothing, for an upstream that would go on with the request
    anyway.
    """

    __slots__ = (
        "_connection",
        "_cut",
        "_listener",
        "_share",
        "awaits_client",
        "before_sending",
        "exchange",
        "given_up",
        "refusal",
        "sent_at",
    )

    def __init__(self, exchange: Exchange, *, cut: bool = True) -> None:
        self.exchange = exchange
        self.given_up = False
        """Nobody waits for this upstream's answer any more, and the request is not sent to it again."""
        self.refusal: Refusal | None = None
        """What is wrong with the body, of which the upstream has got the beginning."""
        self.awaits_client = False
        """It is the client's turn: more of its body is to come, and the upstream has what came so far."""
        self.sent_at = 0.0
        """When the request had been sent whole (`time.monotonic`), if that took a while."""
        self.before_sending: Callable[[], Awaitable[None]] | None = None
        """Awaited when there is a connection, right before the first byte leaves; where it raises, none does."""
        self._cut = cut
        self._connection: http1.Connection | None = None
        self._listener: asyncio.Task[None] | None = None
        self._share: tuple[Shares, Client] | None = None

    @property
    def disconnected(self) -> bool:
        return self._cut and self.exchange.disconnected

    def follow(
        self, connection: http1.Connection, response: http1.Response, outgoing: UpstreamRequest, stuck_after: float
    ) -> bool:
        """From now on it is this connection that the client's body goes to, and that its leaving cuts. Whether some of
        the request has still to be sent: `response.until_sent`. `stuck_after`: so many seconds the upstream may take
        nothing of it."""
        self._connection = connection
        response.on_interim = self._inform
        sending = (outgoing.body is None and outgoing.head.length != 0) or connection.blocked
        if sending:
            self._listener = asyncio.create_task(self._send(connection, response, outgoing, stuck_after))
        if self._cut:
            self.exchange.on_disconnect(self._abort)
        return sending

    def take_share(self, shares: Shares, client: Client) -> None:
        """Until it is closed. Raises Refusal 503."""
        shares.take(client)
        self._share = shares, client

    def close(self) -> None:
        """Cuts what is unfinished, and gives its share back."""
        self.let_go()
        share, self._share = self._share, None
        if share is not None:
            share[0].give_back(share[1])

    def let_go(self) -> None:
        """Cuts what is unfinished of this connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None

    def give_up(self, why: str) -> None:
        """Whoever asks learns of it by an UpstreamError."""
        self.given_up = True
        if self._connection is not None:
            self._connection.abort(why)

    def _abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def _inform(self, status: int, fields: http1.Fields) -> None:
        """RFC 9110 section 15.2. That the client shall go on (100) is for our own server to say."""
        if status != 100:
            self.exchange.inform(status, [field.line for field in fields.without(_NOT_IN_INTERIM)])

    async def _send(
        self, connection: http1.Connection, response: http1.Response, outgoing: UpstreamRequest, stuck_after: float
    ) -> None:
        try:
            if outgoing.body is not None:
                await connection.drain(stuck_after)
            elif await self._send_on(connection, outgoing.most, stuck_after) and not response.status:
                self.refusal = too_large(f"is over {outgoing.most} bytes", outgoing.most)
                connection.abort("the client's body is too long")
        except (http1.UpstreamError, http1.BadBody):
            return  # whoever awaits the response learns of it, or of an early answer
        finally:
            self.sent_at = _monotonic()
            response.sent()

    async def _send_on(self, connection: http1.Connection, most: int, stuck_after: float) -> bool:
        """The body, to its end or until its client has gone; whether it has more than `most` bytes, which are not sent.
        Raises UpstreamError or BadBody."""
        while True:
            self.awaits_client = True
            message = await self.exchange.receive()
            self.awaits_client = False
            if message["type"] == "http.disconnect":
                return False
            body: bytes = message["body"]
            most -= len(body)
            if most < 0:
                return True
            await connection.send_body(body, stuck_after)
            if not message["more_body"]:
                connection.end_body()
                return False


class UpstreamClient:
    """The connections to one upstream, or to one worker, which has no circuit. `rule` says how many of them one client
    may use, `refuse` to which addresses of its name none is opened."""

    def __init__(
        self, upstream: Upstream, rule: ShareRule, circuit: UpstreamCircuit | None = None, refuse: Refuse | None = None
    ) -> None:
        self.upstream = upstream
        self._name = upstream.name
        self._fails = upstream.fails
        self._circuit = circuit
        self._shares = Shares(upstream.name, upstream.connections * len(upstream.members), rule)
        self._pool = http1.Pool(
            http1.Origin.of(upstream.url),
            connect=upstream.connect,
            limit=upstream.connections,
            wait=upstream.wait,
            idle=upstream.keep,
            age=upstream.age,
            tls=context_of(upstream),
            refuse=refuse,
        )
        self._base = http1.base_path(upstream.url)
        self._headers = http1.Deadlines(upstream.headers)
        self._idle = http1.Deadlines(upstream.idle)

    async def ask(self, outgoing: UpstreamRequest, client: Downstream) -> http1.Response:
        """Sends the request and waits for the head of the answer. Whatever comes of it, `client.close()` is due then.

        Sent once more where that is safe and the kept connection turned out to be closed. Raises UpstreamError,
        ClientGone, or Refusal 503 when the client uses its share of the connections, or while the circuit is not closed
        and no probe goes well within a second.
        """
        name, admission = self._name, None
        client.take_share(self._shares, outgoing.head.client)
        if self._circuit is not None:
            admission = self._circuit.admit() or await admitted(self._circuit, name)
        began = client.exchange.asked_at = _monotonic()
        try:
            response = await self.attempt(outgoing, client)
            if admission is not None:
                judge(admission, response, self._fails)
            seconds = client.exchange.upstream_seconds = _monotonic() - (client.sent_at or began)
            metrics.upstream_answered(name, response.status, seconds)
            return response
        except http1.UpstreamError as error:
            if client.awaits_client:
                raise  # it gave up on a slow client, not on us
            metrics.upstream_failed(name, outcome_of(error))
            # The one is our own limit, the other an answer, if not one that can be passed on.
            if admission is not None and not isinstance(error, (http1.PoolExhausted, http1.BadResponse)):
                admission.failed(str(error))
            raise
        finally:
            if admission is not None:
                admission.abandoned()

    async def attempt(self, outgoing: UpstreamRequest, client: Downstream) -> http1.Response:
        """The same, whatever the circuit says, and counted nowhere."""
        framing = outgoing.framing()
        first = outgoing.first_bytes(self._base, framing)
        head_only = outgoing.head.method == "HEAD"
        stuck_after = (outgoing.idle or self._idle).seconds
        fresh = False
        while True:
            if client.disconnected:
                raise ClientGone
            connection = (None if fresh else self._pool.kept()) or await self._pool.acquire(fresh=fresh)
            client.exchange.upstream = connection.peer
            try:
                if client.before_sending is not None:
                    await client.before_sending()
                    if client.given_up or connection.is_over:
                        raise http1.ConnectFailed("the connection was lost before anything was sent")
                if client.given_up:
                    raise http1.UpstreamReset("given up before it was sent")
                response = connection.send(first, framing, outgoing.body or b"", head_only=head_only)
                if client.follow(connection, response, outgoing, stuck_after):
                    await response.until_sent()
                await response.head(outgoing.within or self._headers)
                return response
            except BaseException as error:
                client.let_go()
                connection.abort()
                if client.disconnected and isinstance(error, http1.UpstreamError):
                    raise ClientGone from None
                if client.refusal is not None:
                    raise client.refusal from None
                # A kept connection may have been closed just as we took it.
                closed = isinstance(error, http1.UpstreamReset) and connection.reused and not error.response_started
                if fresh or client.given_up or not (closed and repeatable(outgoing)):
                    raise
            fresh = True

    async def give(
        self,
        response: http1.Response,
        client: Exchange,
        taken: bytes = b"",
        *,
        idle: http1.Deadlines | None = None,
        endless: bool = False,
    ) -> bool:
        """Streams the answer to the client. False when the upstream broke it off (`why` of the exchange tells): then
        the client is cut off too. `taken`: what was taken of its body already; `idle`: so long it may pause, None: as
        all answers of this upstream; `endless`: it may pause for any time.

        Raises BadResponse for a status that HTTP does not have.
        """
        status = response.status
        if status > 599:
            raise http1.BadResponse("a status over 599", response_started=True)
        # A 304 may tell the length of the body it leaves out.
        dropped = _NOT_FOR_THE_CLIENT | CONTENT_LENGTH if status in (204, 304) else _NOT_FOR_THE_CLIENT
        if client.extra_lines and response.fields.kinds & QUOTA:
            theirs_stay, client.extra_lines = without_the_looser(client.extra_lines, response.fields)
            dropped |= 0 if theirs_stay else QUOTA
        lines = [field.line for field in response.fields.without(dropped)]
        length = response.fields.length()
        if status in OF_GATEWAYS:
            client.why = f"{self.upstream.name} answered {status}"
        more = not response.complete
        client.begin(status, lines, None if length < 0 else length, taken + response.take(), more=more)
        while more:
            if client.blocked:
                await client.drain()
            try:
                piece = await response.chunk(None if endless else idle or self._idle)
            except http1.UpstreamError as error:
                if client.disconnected:
                    client.why = client.why_gone or "the client left in the middle of its answer"
                    return True
                client.why = f"broken off: {error}"
                return False
            more = not response.complete
            client.write(piece, more=more)
        return True

    @property
    def connections(self) -> int:
        """How many are open or opening."""
        return self._pool.open

    def in_use(self) -> int:
        """How many requests have a connection, or wait for one."""
        return self._pool.open - self._pool.idle + self._pool.waiting

    def drain(self) -> None:
        """Closes the connections that are not in use, and the others when their exchange ends."""
        self._pool.drain()

    async def close(self) -> None:
        """Cuts what is still in use."""
        await self._pool.close()


async def admitted(circuit: UpstreamCircuit, name: str) -> Admission:
    """What a probe decides, within a second, where the circuit is not closed. Raises Refusal 503."""
    admission = circuit.admit() or await circuit.wait()
    if isinstance(admission, Refused):
        metrics.upstream_failed(name, "circuit_open")
        wait = b"%d" % max(1, math.ceil(admission.retry_after))
        raise Refusal(503, f"upstream {name} unavailable, circuit open", retry_after=wait)
    return admission


def judge(admission: Admission, response: http1.Response, fails: frozenset[int]) -> None:
    """What an answer says about the upstream."""
    if is_failure(response, fails):
        admission.failed(f"answered {response.status}")
    else:
        admission.succeeded()


def is_failure(response: http1.Response, fails: frozenset[int]) -> bool:
    """`fails`: statuses of 5xx that the policies name."""
    status = response.status
    return status >= 500 and (status in fails or says_that_it_fails(status, response.headers))


def outcome_of(error: http1.UpstreamError) -> str:
    """What is counted of a request without an answer: few values."""
    match error:
        case http1.PoolExhausted():
            return "busy"
        case http1.ConnectFailed() | http1.ConnectTimeout() | http1.AddressRefused():
            return "unreachable"
        case http1.HeadTimeout() | http1.IdleTimeout():
            return "timeout"
        case _:
            return "broken_off"


def repeatable(outgoing: UpstreamRequest) -> bool:
    """It may arrive twice (RFC 9110 section 9.2.2), and all of it is here to be sent again."""
    whole = outgoing.body is not None or outgoing.head.length == 0
    return whole and outgoing.head.method in REPEATABLE


def refusal_for(error: http1.UpstreamError, name: str) -> Refusal:
    """An upstream is only ever named by its name in the policies; the log has the cause as well."""
    cause = str(error)
    match error:
        case http1.ConnectTimeout() | http1.HeadTimeout():
            return Refusal(504, f"{name} did not answer in time").because(cause)
        case http1.IdleTimeout():
            return Refusal(504, f"{name} did not take the request in time").because(cause)
        case http1.PoolExhausted():
            return Refusal(503, f"all connections to {name} are busy", retry_after=b"1").because(cause)
        case http1.ConnectFailed() | http1.AddressRefused():
            return Refusal(502, f"{name} cannot be reached").because(cause)
        case http1.BadResponse():
            return Refusal(502, f"{name} answered what cannot be passed on").because(cause)
        case _:
            return Refusal(502, f"{name} broke off before it answered").because(cause)
