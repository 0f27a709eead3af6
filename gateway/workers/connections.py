"""Connections to workers, and one question to one of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.policies import Upstream
from gateway.problems import Refusal
from gateway.proxy.shares import ShareRule
from gateway.proxy.upstream import Downstream, UpstreamClient, UpstreamRequest, refusal_for
from gateway.workers import metrics
from gateway.workers.last_known import MAX_BODY
from sessions.keys import strange
from sluice.http import client as http1
from sluice.http.fields import CONTENT_LENGTH
from sluice.http.server import Exchange
from sluice.observe.log import Log

LOG = Log("gateway")
FENCE = b"X-Sluice-Fence"
MISDIRECTED = 421
_MAX_WORKERS = 256
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_ANSWER = (http1.ConnectFailed, http1.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask. `fence` None: it has no lease on the session, and is asked as it would be directly."""

    worker: str
    url: str
    fence: int | None = None
    fields: Sequence[http1.Field] = field(init=False, compare=False)
    """What it is told beside the client's own."""

    def __post_init__(self) -> None:
        fields = [] if self.fence is None else [http1.Field(FENCE, b"%d" % self.fence)]
        object.__setattr__(self, "fields", fields)


class Answer:
    """The head of a worker's answer has come. `close` is due, whatever becomes of it."""

    __slots__ = ("_client", "_taken", "_upstream", "is_event_stream", "response", "worker")

    def __init__(self, worker: str, response: http1.Response, upstream: UpstreamClient, client: Downstream) -> None:
        self.worker = worker
        self.response = response
        self._upstream = upstream
        self._client = client
        self._taken = b""
        self.is_event_stream = False
        for one in response.fields.all:
            if one.key == b"content-type":
                self.is_event_stream = one.value.lower().startswith(b"text/event-stream")

    @property
    def is_small(self) -> bool:
        """Its body may be taken as a whole."""
        length = self.response.fields.first(CONTENT_LENGTH)
        return length is not None and int(length) <= MAX_BODY

    async def whole(self, timeout: float) -> bytes:
        """Its body, of which each piece may take so many seconds; it can still be given. Raises UpstreamError."""
        while not self.response.complete:
            self._taken += await self.response.chunk(timeout)
        self._taken += self.response.take()
        return self._taken

    async def give(self, exchange: Exchange) -> int:
        """Its status, when all of it is on its way to the client. An event stream may be quiet for any time."""
        given = await self._upstream.give(self.response, exchange, self._taken, endless=self.is_event_stream)
        if not given and not exchange.disconnected:
            LOG.warning("worker.broke_off", worker=self.worker)
        return self.response.status

    def cut(self) -> None:
        """Breaks it off, also for the client; whoever gives it goes on from there."""
        self._client.close()

    def close(self) -> None:
        """Cuts what is unfinished."""
        self._client.close()


class WorkerConnections:
    """By address. `timeouts`: of all of them, but for the wait for an answer, which the route says. `rule`: of
    each worker's connections, how many one client may use."""

    def __init__(self, timeouts: Upstream, rule: ShareRule) -> None:
        self._timeouts = timeouts
        self._rule = rule
        self._workers: OrderedDict[str, UpstreamClient] = OrderedDict()
        self._deadlines: dict[float, http1.Deadlines] = {}
        self._under_way: dict[str, dict[Downstream, int]] = {}

    async def ask(
        self,
        target: Target,
        outgoing: UpstreamRequest,
        exchange: Exchange,
        timeout: float,
        *,
        cut: bool = True,
        session: str = "",
    ) -> Answer | None:
        """None: it turned out not to be the one, and nothing was done: it answers 421, no connection is made, or it has
        lost the session meanwhile, to which this was a question only.

        `timeout`: seconds until the head of its answer. `cut` False: a client that goes away does not end the question.
        Raises ClientGone, NoAnswer, and Refusal for what is wrong with its answer.
        """
        worker, client = self._client_of(target.url), Downstream(exchange, cut=cut)
        outgoing = UpstreamRequest(outgoing.head, outgoing.body, target.fields, self._within(timeout))
        try:
            if session and target.fence is not None and outgoing.head.method in _SAFE:
                response = await self._until_lost(session, target.fence, client, worker, outgoing)
            else:
                response = await worker.ask(outgoing, client)
        except _NO_ANSWER:
            client.close()
            return None
        except http1.UpstreamError as error:
            client.close()
            if client.given_up:
                LOG.info("session.lost_while_asked", worker=target.worker, fence=target.fence)
                return None
            raise NoAnswer(error, target.worker) from None
        except BaseException:
            client.close()
            raise
        if response.status == MISDIRECTED and target.fence is not None:
            client.close()
            metrics.misdirected()
            LOG.info("session.misdirected", worker=target.worker, fence=target.fence)
            return None
        return Answer(target.worker, response, worker, client)

    async def _until_lost(
        self, session: str, fence: int, client: Downstream, worker: UpstreamClient, outgoing: UpstreamRequest
    ) -> http1.Response:
        """A worker that is frozen answers nobody; another one may have its session long before the time is up."""
        under_way = self._under_way.setdefault(session, {})
        under_way[client] = fence
        try:
            return await worker.ask(outgoing, client)
        finally:
            del under_way[client]
            if not under_way and self._under_way.get(session) is under_way:
                del self._under_way[session]

    def lost(self, session: str, fence: int) -> None:
        """Nobody has the session any more under this fence, or under a lower one: whoever waits for such a worker's
        answer to a safe request (RFC 9110 section 9.2.1) asks its next owner."""
        for client, under in list(self._under_way.get(session, {}).items()):
            if under <= fence:
                client.give_up()

    def _within(self, seconds: float) -> http1.Deadlines:
        found = self._deadlines.get(seconds)
        if found is None:
            found = self._deadlines[seconds] = http1.Deadlines(seconds)
        return found

    def _client_of(self, url: str) -> UpstreamClient:
        found = self._workers.get(url)
        if found is None:
            t = self._timeouts
            upstream = Upstream("workers", url, t.connect, t.headers, t.idle)
            found = self._workers[url] = UpstreamClient(upstream, self._rule, refuse=strange)
        self._workers.move_to_end(url)
        return found

    async def close_unused(self) -> None:
        """Closes the connections to workers that have not been asked for longest, when there are many."""
        while len(self._workers) > _MAX_WORKERS:
            _, oldest = self._workers.popitem(last=False)
            await oldest.close()

    async def close(self) -> None:
        for client in self._workers.values():
            await client.close()


class NoAnswer(Refusal):
    """The request was sent, or may have been, and nobody knows what the worker made of it."""

    def __init__(self, error: http1.UpstreamError, worker: str) -> None:
        refusal = refusal_for(error, f"worker {worker}")
        super().__init__(refusal.status, refusal.detail, retry_after=refusal.retry_after)
        self.sent = not isinstance(error, http1.PoolExhausted | http1.AddressRefused)
        """False: it was not; our own connections to that worker are all busy, or none may be made."""
