"""Connections to workers, and one question to one of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from gateway.policies import Upstream
from gateway.problems import Refusal
from gateway.proxy.shares import ShareRule
from gateway.proxy.upstream import OF_GATEWAYS, REPEATABLE, Downstream, UpstreamClient, UpstreamRequest, refusal_for
from gateway.workers import metrics
from gateway.workers.activity import Activity
from gateway.workers.calls import Call, call_of
from gateway.workers.last_known import MAX_BODY
from gateway.workers.target import Target
from gateway.workers.under_way import UnderWay
from sessions.keys import strange
from sessions.lifecycle.traffic import Traffic
from sluice.http import client as http1
from sluice.http.server import Exchange
from sluice.observe.log import Log

LOG = Log("gateway")
MISDIRECTED = 421
LOOK_EVERY = 1.0
"""Seconds between two looks for workers whose lease has ended while they are asked something."""
_MAX_WORKERS = 256
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_BRING_AN_EVENT: frozenset[Call] = frozenset({"send", "send_media"})
"""What a session cannot do without an event of it. A bulk-send is answered 200 though all of it failed."""
_NOT_ASKED: Final = 400
"""In place of a status: no worker has taken the request, so it brings no event."""
_NO_ANSWER = (http1.ConnectFailed, http1.ConnectTimeout)


class Answer:
    """The head of a worker's answer has come. `close` is due, whatever becomes of it."""

    __slots__ = ("_client", "_idle", "_taken", "_upstream", "is_event_stream", "response", "worker")

    def __init__(
        self,
        worker: str,
        response: http1.Response,
        upstream: UpstreamClient,
        client: Downstream,
        idle: http1.Deadlines | None,
    ) -> None:
        self.worker = worker
        self.response = response
        self._upstream = upstream
        self._client = client
        self._idle = idle
        self._taken = b""
        self.is_event_stream = False
        for one in response.fields.all:
            if one.key == b"content-type":
                self.is_event_stream = one.value.lower().startswith(b"text/event-stream")

    @property
    def is_small(self) -> bool:
        """Its body may be taken as a whole."""
        return 0 <= self.response.fields.length() <= MAX_BODY

    async def whole(self, timeout: float) -> bytes:
        """Its body, of which each piece may take so many seconds; it can still be given. Raises UpstreamError."""
        while not self.response.complete:
            self._taken += await self.response.chunk(timeout)
        self._taken += self.response.take()
        return self._taken

    async def give(self, exchange: Exchange) -> int:
        """Its status, when all of it is on its way to the client. An event stream may be quiet for any time."""
        status, endless = self.response.status, self.is_event_stream
        if not await self._upstream.give(self.response, exchange, self._taken, idle=self._idle, endless=endless):
            LOG.warning("worker.broke_off", worker=self.worker, why=exchange.why)
        elif status in OF_GATEWAYS:
            exchange.why = f"worker {self.worker} answered {status}"
        return status

    def cut(self) -> None:
        """Breaks it off, also for the client; whoever gives it goes on from there."""
        self._client.close()

    def close(self) -> None:
        """Cuts what is unfinished."""
        self._client.close()


class WorkerConnections:
    """By address. `timeouts`: of all of them, but for the waits that the route says. `rule`: of each worker's
    connections, how many one client may use."""

    def __init__(self, timeouts: Upstream, rule: ShareRule) -> None:
        self._timeouts = timeouts
        self._rule = rule
        self._workers: OrderedDict[str, UpstreamClient] = OrderedDict()
        self._deadlines: dict[float, http1.Deadlines] = {}
        self._under_way = UnderWay()
        self.activity = Activity()
        self.traffic = Traffic()

    async def ask(
        self,
        target: Target,
        outgoing: UpstreamRequest,
        exchange: Exchange,
        timeout: float,
        *,
        cut: bool = True,
        session: str = "",
        more: Sequence[http1.Field] = (),
        before_sending: Callable[[], Awaitable[None]] | None = None,
    ) -> Answer | None:
        """None: it turned out not to be the one, and nothing was done: it answers 421, no connection is made, or it has
        lost the session meanwhile, or its lease, and the request is safe to repeat.

        `timeout`: seconds until the head of its answer. `cut` False: a client that goes away does not end the question.
        `more`: what the worker is told beside what the target says. `before_sending`: awaited right before the first
        byte leaves; what it raises goes through, and none leaves. Raises ClientGone, NoAnswer, and Refusal for what is
        wrong with its answer.
        """
        worker, client = self._client_of(target.url), Downstream(exchange, cut=cut)
        client.before_sending = before_sending
        method, idle = outgoing.head.method, outgoing.idle
        outgoing = UpstreamRequest(outgoing.head, outgoing.body, [*target.fields, *more], self._within(timeout), idle)
        answer: Answer | None = None
        about = session if method in _SAFE else ""
        self._under_way.add(client, target, about)
        self.activity.begin(session)
        sending = self.traffic.begin(session) if _brings_an_event(method, outgoing.head.path, session) else None
        status: int | None = _NOT_ASKED
        try:
            response = await worker.ask(outgoing, client)
            if response.status == MISDIRECTED and target.fence is not None:
                metrics.misdirected()
                LOG.info("session.misdirected", worker=target.worker, fence=target.fence)
            else:
                answer = Answer(target.worker, response, worker, client, idle)
                status = response.status
        except _NO_ANSWER:
            return None
        except http1.UpstreamError as error:
            if not client.given_up:
                refusal = NoAnswer(error, target.worker)
                status = None if refusal.sent else _NOT_ASKED
                raise refusal from None
            LOG.info("session.lost_while_asked", worker=target.worker, fence=target.fence, why=str(error))
            if method not in REPEATABLE:
                raise NoAnswer(http1.HeadTimeout(str(error)), target.worker) from None
        finally:
            self._under_way.remove(client, target, about)
            self.activity.end(session)
            if sending is not None:
                self.traffic.end(sending, status)
            if answer is None:
                client.close()
        return answer

    def lost(self, session: str, fence: int, *, unowned: bool) -> None:
        """Nobody has the session any more under this fence, or under a lower one: whoever waits for such a worker's
        answer to a safe request (RFC 9110 section 9.2.1) asks its next owner. `unowned`: there is none yet; then an
        existing worker, which may only be busy, keeps its time."""
        for client, target in self._under_way.about(session):
            if target.fence is not None and target.fence <= fence and not (unowned and target.existing):
                client.give_up("it lost the session")

    def has_long_ones(self) -> bool:
        """Whether any worker has been asked something for so long that its lease is worth a look."""
        return self._under_way.any_since(time.monotonic() - LOOK_EVERY)

    def lapsed(self, workers: Collection[str]) -> None:
        """The leases of these have ended: nothing is waited for any longer that they were asked."""
        for worker in workers:
            for client in self._under_way.at(worker):
                client.give_up("its lease ended")

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


def _brings_an_event(method: str, path: bytes, session: str) -> bool:
    return method == "POST" and session != "" and call_of(method, path) in _BRING_AN_EVENT


class NoAnswer(Refusal):
    """The request was sent, or may have been, and nobody knows what the worker made of it."""

    def __init__(self, error: http1.UpstreamError, worker: str) -> None:
        refusal = refusal_for(error, f"worker {worker}")
        super().__init__(refusal.status, refusal.detail, retry_after=refusal.retry_after)
        self.why = refusal.why
        self.sent = not isinstance(error, http1.PoolExhausted | http1.AddressRefused)
        """False: it was not; our own connections to that worker are all busy, or none may be made."""
