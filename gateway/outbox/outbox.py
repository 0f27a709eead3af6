"""Sends that meet a limit with `over: queue`: stored, and answered.

Each is stored, also where its bucket has tokens, so that a session's sends keep their order. Who waits gets the
worker's own answer if it comes within `hold`, wherever it was given to the worker; else he is told our id (202).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice

from gateway.ingest.hold import NOT_NOW, Hold
from gateway.ingest.identity import digest_of
from gateway.outbox import metrics
from gateway.outbox.pieces import Pieces, queued
from gateway.outbox.results import Results
from gateway.outbox.stored import KEY, event_of
from gateway.plan import Plan
from gateway.policies import Policies
from gateway.problems import ClientGone, Refusal
from gateway.proxy.upstream import UpstreamRequest
from gateway.workers.calls import call_of
from gateway.workers.send_records import KEPT_FOR, Outcome, unpacked
from relay import metrics as relay_metrics
from relay.policies import OF_SENDS, OUTBOX
from relay.process import open_queue
from relay.queue.codec import new_id
from relay.queue.errors import BacklogFull, OtherContent
from sluice.http.senders import Sender
from sluice.http.server import Exchange, RequestHead
from sluice.observe.log import Log
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("gateway")
_HELD = 12.0
"""Seconds that a caller is kept waiting for a store that takes nothing now: Laravel waits for 30."""
_DECIDED_WITHIN = 120.0
_AGAIN = 0.2
_TOGETHER = 64
_MAX_KEY = 255
_OTHER_CONTENT = (
    "a send with this Idempotency-Key was accepted before, with other content (relay.dedupe); give each send a key of "
    "its own, and a repeat the same content"
)


class NotStored(Refusal):
    """It may be stored after all, as the store did not say: a repeat has to have the same id."""


class Outbox:
    """Of one process."""

    def __init__(self, store: Store, hold: Hold, results: Results, policies: Policies) -> None:
        self.results = results
        self.wake: Callable[[], None] = _nobody
        """Tells whoever gives sends to workers here that there is something new."""
        self._store = store
        self._hold = hold
        self._left: set[asyncio.Task[Outcome]] = set()
        """Of clients that have hung up."""
        self.apply(policies)

    def apply(self, policies: Policies) -> None:
        """What an edit changes."""
        self._destination = open_queue(self._store, OF_SENDS, policies).destination
        self._dedupe = policies.relay.dedupe

    def id_for(self, plan: Plan, outgoing: UpstreamRequest) -> str:
        """Of a send that is no repeat of one under way. Raises Refusal 400."""
        key = outgoing.head.value(KEY)
        if key is None:
            return new_id()
        if not 0 < len(key) <= _MAX_KEY:
            raise Refusal(400, f"Idempotency-Key: has {len(key)} bytes, it may have 1 to {_MAX_KEY}")
        return new_id(f"send\0{plan.subject.session}\0{key.decode('latin-1')}")

    async def serve(self, plan: Plan, outgoing: UpstreamRequest, exchange: Exchange, since: float) -> int:
        """The status given to the client; `since` (`time.monotonic`): when it came. A client that hangs up is as good
        as told our id. Raises Refusal, and ClientGone."""
        exchange.stored_as = send = self.id_for(plan, outgoing)
        waiting = asyncio.create_task(self.answer(send, plan, outgoing, exchange.head, since))
        left = asyncio.Event()
        exchange.on_disconnect(left.set)
        leaving = asyncio.create_task(left.wait())
        try:
            await asyncio.wait([waiting, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                self._detach(waiting)
                raise ClientGone
            outcome = await waiting
        finally:
            leaving.cancel()
        if isinstance(outcome, Refusal):
            raise outcome
        outcome.give(exchange)
        await exchange.drain()
        return outcome.status

    def _detach(self, waiting: asyncio.Task[Outcome]) -> None:
        self._left.add(waiting)
        waiting.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Outcome]) -> None:
        """Nobody looks at what came of it."""
        self._left.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception) and not isinstance(error, Refusal):
            LOG.error("send.failed", exception=error)

    async def close(self) -> None:
        for task in self._left:
            task.cancel()
        await asyncio.gather(*self._left, return_exceptions=True)

    async def answer(
        self, send: str, plan: Plan, outgoing: UpstreamRequest, head: RequestHead, since: float
    ) -> Outcome:
        """What the caller gets. A refusal that is returned, or a 5xx of the worker: nobody knows whether it went out.

        Raises Refusal where it was not stored, as the store is away or the backlog is full; NotStored where that is not
        certain.
        """
        until = since + min(bucket.limit.hold for bucket in plan.queued)
        pieces = None
        if call_of("POST", outgoing.head.path) == "bulk_send":
            pieces = Pieces.of(send, outgoing)
        if pieces is not None:
            return await self._answer_pieces(pieces, plan, head, until)
        await self._accept(send, plan, outgoing, since)
        await self.results.wait(send, until)
        outcome = await self._decided(send, head)
        return queued(send, head) if outcome is None else outcome

    async def _answer_pieces(self, pieces: Pieces, plan: Plan, head: RequestHead, until: float) -> Outcome:
        """A piece that cannot be stored, after others were, is told among the errors of the answer."""
        outcomes = await self._accept_pieces(pieces, plan)
        stored = [at for at, outcome in enumerate(outcomes) if outcome is None]
        while stored:
            await self.results.wait(pieces.ids[stored[0]], until)
            together = 1 if time.monotonic() < until else _TOGETHER
            some, stored = stored[:together], stored[together:]
            decided = await asyncio.gather(*(self._decided(pieces.ids[at], head) for at in some))
            for at, outcome in zip(some, decided, strict=True):
                outcomes[at] = outcome
        return pieces.answer(outcomes, head)

    async def _accept_pieces(self, pieces: Pieces, plan: Plan) -> list[Outcome | None]:
        """None for each that is stored; once one was refused, none after its fellows is. Raises Refusal if none is."""
        outcomes: list[Outcome | None] = []
        requests = pieces.requests()
        while some := list(islice(requests, _TOGETHER)):
            since = time.monotonic()
            accepting = [self._accept(piece, plan, request, since) for piece, request in some]
            answers = await asyncio.gather(*accepting, return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException) and not isinstance(answer, Refusal):
                    raise answer
                outcomes.append(answer)
            refusals = [answer for answer in answers if isinstance(answer, Refusal)]
            if refusals and None not in outcomes:
                raise refusals[0]
            if refusals:
                return outcomes + refusals[-1:] * (len(pieces.recipients) - len(outcomes))
        return outcomes

    async def _accept(self, send: str, plan: Plan, outgoing: UpstreamRequest, since: float) -> None:
        keyed = outgoing.head.value(KEY) is not None
        window, digest = (self._dedupe, digest_of(outgoing.body or b"")) if keyed else (2 * KEPT_FOR, "")
        event = event_of(send, plan, outgoing, window, digest)
        try:
            await self._hold.accept(event, [self._destination], Sender(_HELD), since)
        except (*NOT_NOW, OtherContent) as error:
            metrics.send("refused")
            raise _refused(error) from None
        relay_metrics.accepted(OUTBOX, event.type)
        metrics.send("accepted")
        self.wake()

    async def _decided(self, send: str, head: RequestHead) -> Outcome | None:
        """What the caller gets; None: our id. While the store is away nobody can say which, so it is waited for."""
        until = time.monotonic() + _DECIDED_WITHIN
        while True:
            try:
                kept = await self.results.promise(send)
                metrics.send("promised" if kept is None else "answered")
                return None if kept is None else unpacked(kept, head)
            except (StoreAway, StoreRefused) as error:
                if time.monotonic() >= until:
                    LOG.warning("send.undecided", id=send, reason=str(error))
                    return Refusal(503, "the send is stored, and what has become of it cannot be found out right now")
                await asyncio.sleep(_AGAIN)


def is_known(outcome: Outcome) -> bool:
    """Whether it is known if the send went out; a worker that failed may have sent it."""
    return outcome.status < 500


def _refused(error: Exception) -> Refusal:
    if isinstance(error, OtherContent):
        reason, refusal = "other_content", Refusal(422, _OTHER_CONTENT)
    elif isinstance(error, BacklogFull):
        reason = "backlog_full"
        refusal = Refusal(503, "too many sends wait for their workers (relay.backlog)", retry_after=b"30")
    else:
        reason = "store_away"
        refusal = NotStored(503, "the send could not be stored; send it again", retry_after=b"2")
    relay_metrics.refused(OUTBOX, reason)
    return refusal


def _nobody() -> None:
    return None
