"""The attempts in flight: each sends a POST, settles its deliveries, and goes on with what is prefetched."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Protocol

from relay import metrics
from relay.deliver.outcome import Delivered, Failed, NotSent, Outcome, Paused, Refused, Rejected, Superseded
from relay.deliver.retry import NO_EVIDENCE, settle_batch
from relay.deliver.sender import LEASE_OVER
from relay.dispatch.leases import Leases
from relay.dispatch.permits import Permits
from relay.dispatch.prefetch import Prefetch
from relay.dispatch.slots import Slots
from relay.policies import Retry
from relay.queue.codec import Delivery
from relay.queue.newest import Newest
from relay.queue.queue import Settlement
from relay.queue.suspects import SUSPECT, Suspects
from sluice.http.trace import id_in
from sluice.observe.log import Log
from sluice.process.boottime import boottime
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("relay")
_KINDS: dict[type[Outcome], str] = {
    Delivered: "delivered",
    Failed: "failed",
    Paused: "paused",
    Refused: "refused",
    Rejected: "rejected",
    NotSent: "not_sent",
    Superseded: "superseded",
}


_AGAIN = ("retry", "unspent", "rejected", "return")
_NOT_NOTED = NotSent("two processes have ended while they delivered it, and the store does not note a third", wait=0.2)
_UNKNOWN = NotSent("the store does not say whether it was superseded", wait=0.2)
_OLDER_FIRST = NotSent("an older event that it supersedes is being sent", wait=0.2)


class Sends(Protocol):
    async def post(self, delivery: Delivery, begin_by: float) -> Outcome:
        """`begin_by`: a moment of `boottime`, after which nothing is sent."""
        ...

    async def post_batch(self, deliveries: Sequence[Delivery], begin_by: float) -> list[Outcome]:
        """One POST of several, in order; the outcome of each."""
        ...


class Attempts:
    """`wake` is set when the loop should poll. `in_batches`: POSTs go by `post_batch`."""

    def __init__(
        self,
        endpoint: str,
        sender: Sends,
        retry: Retry,
        newest: Newest,
        suspects: Suspects,
        wake: asyncio.Event,
        *,
        permits: Permits,
        slots: Slots,
        leases: Leases,
        prefetch: Prefetch,
        in_batches: bool,
    ) -> None:
        self._endpoint = endpoint
        self._sender = sender
        self._retry = retry
        self._wake = wake
        self._permits = permits
        self._slots = slots
        self._leases = leases
        self._prefetch = prefetch
        self._newest = newest
        self._suspects = suspects
        self._in_batches = in_batches

    def begin(self, deliveries: list[Delivery]) -> None:
        self._slots.occupy(deliveries, asyncio.create_task(self._run(deliveries)))

    def begin_prefetched(self, now: float) -> None:
        """As many as there are free slots."""
        while self._slots.free(now) > 0 and (deliveries := self._prefetch.take()):
            self.begin(deliveries)

    async def _run(self, deliveries: list[Delivery]) -> None:
        """One POST after the other, while each goes well and finds a successor: a task for each would cost more."""
        following: list[Delivery] | None = deliveries
        while following:
            following = await self._attempt(following, self._permits.admission.generation)

    async def _attempt(self, deliveries: list[Delivery], generation: int) -> list[Delivery] | None:
        """Returns what this task goes on with."""
        started = time.monotonic()
        began_at = self._permits.store_now(started)
        begin_by = self._leases.begin_by(deliveries)
        try:
            if boottime() > begin_by:
                outcomes: list[Outcome] = [LEASE_OVER] * len(deliveries)
            elif deliveries[0].crash_count >= SUSPECT and (unsent := await self._not_begun(deliveries[0])):
                outcomes = [unsent]
            elif self._in_batches:
                outcomes = await self._post_batch(deliveries, begin_by)
            elif deliveries[0].superseding is None:
                outcomes = [await self._sender.post(deliveries[0], begin_by)]
            else:
                outcomes = [await self._post_alone(deliveries[0], begin_by)]
        except Exception as error:  # noqa: BLE001 - a bug in sending must not lose deliveries or end the loop
            LOG.error("delivery.crashed", exception=error, id=deliveries[0].id)
            outcomes = [Failed(f"an error in sluice: {type(error).__name__}")] * len(deliveries)
        now = time.monotonic()
        went_well = self._permits.count(generation, deliveries, outcomes, began_at)
        evidence = NO_EVIDENCE if went_well else self._permits.evidence(now)
        settled = settle_batch(deliveries, outcomes, self._retry, evidence, ms=(now - started) * 1000)
        self._leases.settle(deliveries, settled)
        self._prefetch.note_ended()
        self._slots.release(deliveries)  # already here, so that the poll that this wakes finds the slot free
        store_now = self._permits.store_now(now)
        for outcome, result in zip(outcomes, settled, strict=True):
            _log(self._endpoint, outcome, result, now - started, store_now)
        following = self._successor(now) if went_well else None
        if self._prefetch.is_poll_due or not went_well:  # after a failure the circuit is asked first, and at once
            self._wake.set()
        return following

    async def _not_begun(self, suspect: Delivery) -> NotSent | None:
        """Why it is not sent now, which is alone in its POST; None: it is, and this process may end in the midst."""
        try:
            return None if await self._suspects.begun(suspect) else LEASE_OVER
        except (StoreAway, StoreRefused):
            return _NOT_NOTED

    async def _post_batch(self, deliveries: list[Delivery], begin_by: float) -> list[Outcome]:
        """Without those that were superseded."""
        unsent = [None if one.superseding is None else await self._unsent(one, alone=False) for one in deliveries]
        sent = [one for one, outcome in zip(deliveries, unsent, strict=True) if outcome is None]
        outcomes = iter(await self._sender.post_batch(sent, begin_by) if sent else [])
        return [next(outcomes) if outcome is None else outcome for outcome in unsent]

    async def _post_alone(self, delivery: Delivery, begin_by: float) -> Outcome:
        """While no older one that it supersedes is being sent. Without an answer the receiver may still be at it."""
        unsent = await self._unsent(delivery, alone=True)
        if unsent is not None:
            return unsent
        outcome = await self._sender.post(delivery, begin_by)
        if outcome.status is not None or isinstance(outcome, NotSent):
            with contextlib.suppress(StoreAway, StoreRefused):
                await self._newest.ended(delivery)
        return outcome

    async def _unsent(self, delivery: Delivery, *, alone: bool) -> NotSent | Superseded | None:
        """Why it is not sent now; None: it is. `alone`: not beside an older one that it supersedes."""
        try:
            answer = await self._newest.may_send(delivery, alone=alone)
        except (StoreAway, StoreRefused):
            return _UNKNOWN
        if answer.may == "superseded":
            return Superseded(answer.newest)
        return _OLDER_FIRST if answer.may == "wait" else None

    def _successor(self, now: float) -> list[Delivery] | None:
        """The next of those prefetched, for the calling task; where more slots are free, more are begun."""
        if self._slots.free(now) <= 0 or (following := self._prefetch.take()) is None:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._slots.occupy(following, task)
        self.begin_prefetched(now)
        return following


def _log(endpoint: str, outcome: Outcome, settled: Settlement, seconds: float, store_now: float) -> None:
    delivery = settled.delivery
    since_accepted = max(0.0, store_now - delivery.accepted_at)
    kind = _KINDS[type(outcome)]
    handled = outcome.handled if isinstance(outcome, Delivered) else ""
    metrics.attempted(endpoint, kind, seconds, since_accepted, delivery.attempt, handled)
    LOG.line(
        "delivery.attempted",
        {
            "id": delivery.id,
            "endpoint": endpoint,
            "event": delivery.type,
            "session": delivery.session,
            "attempt": delivery.attempt,
            "trace": id_in(delivery.headers),
            "outcome": kind,
            "status": outcome.status,
            "reason": None if isinstance(outcome, Delivered) else outcome.reason,
            "retry_in_ms": settled.argument if settled.disposition in _AGAIN else None,
            "ms": _tenths(seconds * 1000),
            "since_accepted_ms": _tenths(since_accepted * 1000),
        },
    )


def _tenths(ms: float) -> float:
    """To one digit; `round` is exact about halves, at ten times the cost."""
    return int(ms * 10 + 0.5) / 10
