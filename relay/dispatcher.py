"""The loop that moves one endpoint's deliveries: permits from the circuit, leases from the queue, posts, outcomes.

A turn is two round trips however many deliveries it handles: results go to the circuit and permits come back, then
results go to the queue and leased deliveries come back. Between turns the loop sleeps until an attempt ends, something
is due, the queue's channel speaks, or half a second has passed in case it spoke in vain.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Protocol

from relay.backoff import delay
from relay.circuit import Admission, Circuit, Report
from relay.event import Delivery
from relay.outcome import Delivered, Failed, Outcome, Paused, Rejected
from relay.queue import Queue, Settled
from runtime import metrics
from runtime.logs import Log
from runtime.loops import Stop
from runtime.policies import Retry
from runtime.store import StoreAway, StoreRefused

LOG = Log("relay")
_LONGEST_SLEEP = 0.5
_STORE_AWAY_SLEEP = 0.2
_LAST_PATIENCE = 5.0  # seconds a stopping dispatcher waits for an absent store; what it cannot settle is sent again


class Sends(Protocol):
    async def post(self, delivery: Delivery) -> Outcome: ...


class Dispatcher:
    """Delivers what waits for one endpoint, at most `concurrency` attempts at a time in this process."""

    def __init__(self, queue: Queue, circuit: Circuit, sender: Sends, *, retry: Retry, concurrency: int) -> None:
        self._queue = queue
        self._circuit = circuit
        self._sender = sender
        self._retry = retry
        self._concurrency = concurrency
        self._ended: deque[Settled] = deque()
        self._reports: dict[int, Report] = {}
        self._attempts: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._blocked_until = 0.0
        self._away_since: float | None = None
        self._looked_at = 0.0

    def wake(self, partitions: bytes) -> None:
        """Something new waits (a message of the queue's channel)."""
        self._queue.wake(partitions)
        self._woken.set()

    async def run(self, stop: Stop) -> None:
        """Until stopped; then no more is leased, attempts under way are finished and settled."""
        stopping = asyncio.create_task(self._wake_on(stop))
        try:
            while True:
                wait = await self._turn_or_wait(stop)
                if stop.requested and not self._attempts and (not self._ended or self._away_for() > _LAST_PATIENCE):
                    break
                await self._sleep(wait)
        finally:
            stopping.cancel()
            for attempt in self._attempts:
                attempt.cancel()

    async def turn(self, *, leasing: bool = True) -> float:
        """One turn. Seconds until the next one makes sense. Raises StoreAway or StoreRefused, having lost nothing."""
        now = time.monotonic()
        if now - self._looked_at >= _LONGEST_SLEEP:
            self._looked_at = now
            self._queue.look_everywhere()
        room = self._concurrency - len(self._attempts) if leasing else 0
        permits, generation = await self._admitted(self._wanted(room, now))
        try:
            leased = await self._settle_and_lease(permits)
        except (StoreAway, StoreRefused):
            self._give_back(generation, permits)
            raise
        self._give_back(generation, permits - len(leased))
        for delivery in leased:
            self._start(delivery, generation)
        return self._until_next_turn(room - len(leased))

    def _wanted(self, room: int, now: float) -> int:
        """Nothing while the circuit has told us to wait, unless there is news for it that may change its mind."""
        asking = bool(self._reports) or now >= self._blocked_until
        return room if asking and (self._ended or self._queue.next_due() == 0) else 0

    async def _admitted(self, want: int) -> tuple[int, int]:
        """Permits and their generation, in exchange for what came of earlier ones."""
        reports, self._reports = self._reports, {}
        if not want and not reports:
            return 0, -1
        try:
            admission = await self._circuit.admit(want, list(reports.items()))
        except (StoreAway, StoreRefused):
            for generation, report in reports.items():
                self._report(generation).add(report)
            raise
        metrics.circuit_state(self._queue.endpoint, admission.state)
        if want:
            self._blocked_until = time.monotonic() + (0 if admission.permits else _patience(admission))
        return admission.permits, admission.generation

    async def _settle_and_lease(self, permits: int) -> list[Delivery]:
        settled = list(self._ended)
        if not settled and not permits:
            return []
        turn = await self._queue.turn(settled, permits)
        for _ in settled:
            self._ended.popleft()
        for delivery in turn.refused:
            LOG.warning("delivery.settled_late", id=delivery.id, endpoint=self._queue.endpoint)
        return turn.leased

    def _give_back(self, generation: int, permits: int) -> None:
        if permits:
            self._report(generation).unused += permits

    def _until_next_turn(self, room: int) -> float:
        if self._ended:
            return 0.0
        if room <= 0:
            return _LONGEST_SLEEP
        return max(self._queue.next_due(), self._blocked_until - time.monotonic())

    async def _turn_or_wait(self, stop: Stop) -> float:
        try:
            wait = await self.turn(leasing=not stop.requested)
        except (StoreAway, StoreRefused) as error:
            if self._away_since is None:
                self._away_since = time.monotonic()
                LOG.error("store.away", endpoint=self._queue.endpoint, reason=str(error))
            return _STORE_AWAY_SLEEP
        if self._away_since is not None:
            LOG.info("store.back", endpoint=self._queue.endpoint, after=round(self._away_for(), 2))
            self._away_since = None
        return wait

    def _away_for(self) -> float:
        return time.monotonic() - self._away_since if self._away_since is not None else 0.0

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(min(seconds, _LONGEST_SLEEP)):
                    await self._woken.wait()
            except TimeoutError:
                pass
        else:
            await asyncio.sleep(0)
        self._woken.clear()

    async def _wake_on(self, stop: Stop) -> None:
        await stop.wait()
        self._woken.set()

    # --- attempts

    def _start(self, delivery: Delivery, generation: int) -> None:
        attempt = asyncio.create_task(self._attempt(delivery, generation))
        self._attempts.add(attempt)

    async def _attempt(self, delivery: Delivery, generation: int) -> None:
        started = time.monotonic()
        try:
            outcome = await self._sender.post(delivery)
        except Exception as error:  # noqa: BLE001 - a bug in sending must not lose the delivery or end the loop
            LOG.error("delivery.crashed", exception=error, id=delivery.id)
            outcome = Failed(f"our own error: {type(error).__name__}")
        self._count(generation, outcome)
        settled = settle(delivery, outcome, self._retry)
        self._ended.append(settled)
        task = asyncio.current_task()
        if task is not None:
            self._attempts.discard(task)  # already here, so that the turn this wakes finds the room
        self._woken.set()
        self._log(delivery, outcome, settled, time.monotonic() - started)

    def _report(self, generation: int) -> Report:
        return self._reports.setdefault(generation, Report())

    def _count(self, generation: int, outcome: Outcome) -> None:
        report = self._report(generation)
        match outcome:
            case Delivered() | Rejected():
                report.well += 1  # a refused event is the event's fault: the endpoint answered
            case Failed(reason):
                report.wrong += 1
                report.why = reason
            case Paused(reason, at_least):
                report.wrong += 1
                report.not_now = True
                report.at_least = max(report.at_least, at_least)
                report.why = reason

    def _log(self, delivery: Delivery, outcome: Outcome, settled: Settled, seconds: float) -> None:
        waited = time.time() - delivery.accepted_at
        metrics.attempted(self._queue.endpoint, type(outcome).__name__.lower(), seconds, waited)
        LOG.info(
            "delivery.attempted",
            id=delivery.id,
            endpoint=self._queue.endpoint,
            event=delivery.type,
            session=delivery.session,
            attempt=delivery.attempt,
            outcome=type(outcome).__name__.lower(),
            status=outcome.status,
            reason=None if isinstance(outcome, Delivered) else outcome.reason,
            again_in_ms=settled.argument if settled.how in "rp" else None,
            ms=round(seconds * 1000, 1),
            since_accepted_ms=round(waited * 1000, 1),
        )


def _patience(admission: Admission) -> float:
    """Half-open, another process may close the circuit at any time; open or out of pace, the wait is known."""
    return min(admission.wait, _LONGEST_SLEEP) if admission.state == "half-open" else admission.wait


def settle(delivery: Delivery, outcome: Outcome, retry: Retry, chance: float | None = None) -> Settled:
    """What becomes of a delivery after an attempt. `chance` takes the place of the dice."""
    match outcome:
        case Delivered():
            return Settled(delivery, "o")
        case Rejected(reason):
            return Settled(delivery, "d", reason)
        case Paused():
            return Settled(delivery, "p", 0)  # the circuit, which opens now, decides when
        case Failed(reason) if delivery.attempt >= retry.attempts:
            return Settled(delivery, "d", f"{reason}; attempt {delivery.attempt} of {retry.attempts}")
        case Failed(_, retry_after):
            seconds = delay(delivery.attempt, retry.base, retry.cap, retry_after, chance)
            return Settled(delivery, "r", int(seconds * 1000))
