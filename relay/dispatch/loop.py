"""The loop that moves one endpoint's deliveries: permits from the circuit, leases from the queue, posts, outcomes.

A turn is one round trip however many deliveries it handles: results go to the circuit and to the queue, permits and
leased deliveries come back. While permits are scarce (the circuit is not closed, or has closed a moment ago, or there
is a pace) it is two: nothing is leased that may not be sent. Between turns the loop sleeps until an attempt ends,
something is due, the queue's channel speaks, or half a second has passed in case it spoke in vain.

Where attempts are short a turn leases more than may be under way at once (`relay/dispatch/prefetch.py`): so an attempt
that went well finds its successor here, and turns are few and large, which is what makes them cheap.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from relay import metrics
from relay.circuit import Admission, Circuit, Report
from relay.deliver.outcome import Delivered, Failed, Outcome, Paused, Rejected
from relay.deliver.retry import settle_batch
from relay.dispatch.batching import Batching, Posts
from relay.dispatch.leases import Leases
from relay.dispatch.prefetch import Prefetch
from relay.policies import Batch, Retry
from relay.queue.codec import Delivery
from relay.queue.layout import PARTITIONS
from relay.queue.queue import Polled, Queue, Settlement
from sluice.observe.log import Log
from sluice.process.loops import Stop
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("relay")
_MAX_SLEEP = 0.5
_MAX_BLOCKED = 2.0  # seconds in which a process sees that a person has let go of an open circuit
_STORE_AWAY_SLEEP = 0.2
_LAST_PATIENCE = 5.0  # seconds a stopping dispatcher waits for an absent store; what it cannot settle is sent again
_SUSPECT = 2  # holders that died on it, one less than bury it
_SUSPECT_WAIT = 200  # ms until it is seen whether another suspect is still under way
_GATHERING = 0.002  # seconds in which ended attempts are gathered for one turn, while others take their places
_UNKNOWN = Admission("open", -1, 0, 0.0)


class Sends(Protocol):
    async def post(self, delivery: Delivery) -> Outcome: ...

    async def post_batch(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        """One POST of several, in order; the outcome of each."""
        ...


class Dispatcher:
    """Delivers what waits for one endpoint, at most `concurrency` POSTs at a time in this process."""

    def __init__(
        self,
        queue: Queue,
        circuit: Circuit,
        sender: Sends,
        *,
        retry: Retry,
        concurrency: int,
        batch: Batch | None = None,
    ) -> None:
        self._queue = queue
        self._circuit = circuit
        self._sender = sender
        self._retry = retry
        self._concurrency = concurrency
        self._batching = Batching(batch) if batch else None
        self._ended: deque[Settlement] = deque()
        self._reports: dict[int, Report] = {}
        self._admission = _UNKNOWN
        self._slow_until = 0.0
        self._blocked_until = 0.0
        self._prefetch = Prefetch(0 if batch else concurrency)
        self._posts: dict[bytes, asyncio.Task[None]] = {}
        """By the lease of the first delivery of each."""
        self._suspect: bytes | None = None
        """The lease of the one that is under way."""
        self._leases = Leases(queue)
        self._woken = asyncio.Event()
        self._away_since: float | None = None
        self._looked_at = 0.0
        self._turned_at: float | None = None

    @property
    def seconds_stuck(self) -> float:
        """Seconds since its last turn, while it runs."""
        return time.monotonic() - self._turned_at if self._turned_at is not None else 0.0

    def wake(self, partitions: bytes) -> None:
        """Something new waits (a message of the queue's channel)."""
        self._queue.wake(partitions)
        self._woken.set()

    async def run(self, stop: Stop) -> None:
        """Until stopped; then no more is leased, attempts under way are finished and settled."""
        self._turned_at = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._wake_on(stop)), group.create_task(self._leases.keep())]
                wait = await self._turn_or_wait(stop)
                while not self._is_over(stop):
                    await self._sleep(wait)
                    wait = await self._turn_or_wait(stop)
                for task in beside:
                    task.cancel()
        finally:
            self._turned_at = None
            for post in self._posts.values():
                post.cancel()

    def _is_over(self, stop: Stop) -> bool:
        settled = not self._ended or self._away_for() > _LAST_PATIENCE
        return stop.requested and not self._posts and not self._prefetch and settled

    # --- turns

    async def turn(self, *, leasing: bool = True) -> float:
        """One turn. Seconds until the next one makes sense. Raises StoreAway or StoreRefused, having lost nothing."""
        now = time.monotonic()
        if now - self._looked_at >= _MAX_SLEEP:
            self._looked_at = now
            self._queue.look_everywhere()
        flows = self._flows(now)
        self._return_leases(self._prefetch.give_back(now if leasing and flows else None))
        self._prefetch.note_turn()
        room = self._room(now, flows) if leasing else 0
        want = self._wanted(room, now)
        posts = await (self._turn_at_once(want) if flows else self._turn_in_two(want))
        self._turned_at = now = time.monotonic()
        for deliveries in posts:
            self._leases.begin(deliveries, now)
        if flows:
            self._prefetch.add(posts, now)
            self._begin_those_ahead(now)
        else:
            for deliveries in posts:
                self._begin(deliveries)
        return self._until_next_turn(room - len(posts))

    def _flows(self, now: float) -> bool:
        """Whether there are as many permits as anybody wants."""
        return self._admission.state == "closed" and now >= self._slow_until and not self._circuit.interval

    async def _turn_at_once(self, want: int) -> Posts:
        """Should the circuit not be closed any more, what was leased is put back before anything is sent."""
        settled = list(self._ended)
        reports, self._reports = self._reports, {}
        if not want and not reports:
            if settled:
                await self._turned(settled, 0)
            return []
        along = self._circuit.admitting(want, list(reports.items()))
        try:
            answer, turn = await self._queue.poll_with(along, settled, self._deliveries(want))
        except (StoreAway, StoreRefused):
            self._take_back(reports)
            raise
        self._note_turn(settled, turn)
        self._note_admission(self._circuit.admission(answer), want)
        is_closed = self._admission.state == "closed"
        posts, back = self._sendable(turn.leased, want) if is_closed else ([], turn.leased + self._prefetch.give_back())
        self._return_leases(back)
        return posts

    async def _turn_in_two(self, want: int) -> Posts:
        settled = list(self._ended)  # now: what ends meanwhile is not told to the circuit before the next turn
        permits = await self._admitted(want)
        generation = self._admission.generation
        if not settled and not permits:
            return []
        try:
            leased = (await self._turned(settled, permits)).leased
        except (StoreAway, StoreRefused):
            self._give_back(generation, permits)
            raise
        posts, back = self._sendable(leased, permits)
        self._return_leases(back)
        self._give_back(generation, permits - len(posts))
        return posts

    async def _admitted(self, want: int) -> int:
        """Permits, in exchange for what came of earlier ones."""
        reports, self._reports = self._reports, {}
        if not want and not reports:
            return 0
        try:
            admission = await self._circuit.admit(want, list(reports.items()))
        except (StoreAway, StoreRefused):
            self._take_back(reports)
            raise
        self._note_admission(admission, want)
        return admission.permits

    async def _turned(self, settled: list[Settlement], permits: int) -> Polled:
        turn = await self._queue.poll(settled, self._deliveries(permits))
        self._note_turn(settled, turn)
        return turn

    def _note_admission(self, admission: Admission, want: int) -> None:
        now = time.monotonic()
        if admission.state != self._admission.state:
            metrics.circuit_state(self._queue.endpoint, admission.state)
        self._admission = admission
        self._slow_until = now + admission.slow_start_left
        if want:
            self._blocked_until = now + (0 if admission.permits else _patience(admission))

    def _note_turn(self, settled: list[Settlement], turn: Polled) -> None:
        for _ in settled:
            self._ended.popleft()
        for delivery in turn.refused:
            LOG.warning("delivery.settled_late", id=delivery.id, endpoint=self._queue.endpoint)

    def _take_back(self, reports: dict[int, Report]) -> None:
        for generation, report in reports.items():
            self._report(generation).add(report)

    def _give_back(self, generation: int, permits: int) -> None:
        """Where they are scarce."""
        if permits and (self._circuit.interval or self._admission.state == "half-open"):
            self._report(generation).unused += permits

    # --- how much

    def _room(self, now: float, flows: bool) -> int:
        """For how many more POSTs, those that are leased ahead included."""
        ahead = self._prefetch.room if flows else -len(self._prefetch)
        return self._max_at_once(now) - len(self._posts) + ahead

    def _max_at_once(self, now: float) -> int:
        """After an outage the concurrency grows to all of it, so that the receiver does not fall over at once again."""
        slow_start_left = self._slow_until - now
        share = 1 - slow_start_left / self._circuit.slow_start if slow_start_left > 0 else 1.0
        return max(1, int(self._concurrency * share))

    def _wanted(self, room: int, now: float) -> int:
        """Nothing while the circuit has told us to wait, unless there is news for it that may change its mind."""
        if room <= 0 or not (self._reports or now >= self._blocked_until):
            return 0
        is_due = self._queue.next_due() == 0
        if self._batching is not None:
            return min(room, PARTITIONS) if is_due and self._batching.is_over(now) else 0
        return room if is_due or self._ended else 0

    def _sendable(self, leased: list[Delivery], permits: int) -> tuple[Posts, list[Delivery]]:
        """The POSTs that are made of what was leased, and what is put back."""
        if self._batching is None:
            return self._with_one_suspect([[delivery] for delivery in leased], [])
        return self._with_one_suspect(*self._batching.posts(leased, permits)) if permits else ([], [])

    def _with_one_suspect(self, posts: Posts, back: list[Delivery]) -> tuple[Posts, list[Delivery]]:
        """What may be ending processes goes without others that may: else all of them would be buried for one's fault.

        It is alone in its POST.
        """
        sent: Posts = []
        for post in posts:
            if post[0].crash_count < _SUSPECT:
                sent.append(post)
            elif self._suspect is None:
                self._suspect = post[0].lease
                sent.append(post)
            else:
                back = [*back, *post]
        return sent, back

    def _return_leases(self, deliveries: list[Delivery]) -> None:
        """What was leased and not sent."""
        self._leases.end(deliveries)
        if any(delivery.lease == self._suspect for delivery in deliveries):
            self._suspect = None
        self._ended.extend(
            Settlement(delivery, "return", _SUSPECT_WAIT if delivery.crash_count >= _SUSPECT else 0)
            for delivery in deliveries
        )

    def _deliveries(self, permits: int) -> int:
        """A permit is for one POST."""
        return permits * self._batching.most if self._batching is not None else permits

    def _until_next_turn(self, room: int) -> float:
        if self._prefetch:
            return 0.0 if self._prefetch.is_time else _GATHERING
        if self._ended:
            return 0.0
        if room <= 0:
            return _MAX_SLEEP
        now = time.monotonic()
        gathering = self._batching.left(now) if self._batching is not None else 0.0
        return max(self._queue.next_due(), self._blocked_until - now, gathering)

    # --- waiting

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
        """Woken by an ended attempt or the channel; not while the store is away, for then both would spin."""
        if self._away_since is not None:
            await asyncio.sleep(seconds)
        elif seconds > 0:
            try:
                async with asyncio.timeout(min(seconds, _MAX_SLEEP)):
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

    def _begin_those_ahead(self, now: float) -> None:
        """As many as there is room for."""
        while len(self._posts) < self._max_at_once(now) and (deliveries := self._prefetch.take()):
            self._begin(deliveries)

    def _begin(self, deliveries: list[Delivery]) -> None:
        self._posts[deliveries[0].lease] = asyncio.create_task(self._attempts(deliveries))

    async def _attempts(self, deliveries: list[Delivery]) -> None:
        """One after the other, while each goes well and finds its successor here: a task for each would cost more."""
        following: list[Delivery] | None = deliveries
        while following:
            following = await self._attempt(following, self._admission.generation)

    async def _attempt(self, deliveries: list[Delivery], generation: int) -> list[Delivery] | None:
        """What this task goes on with."""
        started = time.monotonic()
        try:
            if self._batching is None:
                outcomes = [await self._sender.post(deliveries[0])]
            else:
                outcomes = await self._sender.post_batch(deliveries)
        except Exception as error:  # noqa: BLE001 - a bug in sending must not lose deliveries or end the loop
            LOG.error("delivery.crashed", exception=error, id=deliveries[0].id)
            outcomes = [Failed(f"our own error: {type(error).__name__}")] * len(deliveries)
        now = time.monotonic()
        went_well = self._count(generation, outcomes)
        settled = settle_batch(deliveries, outcomes, self._retry, ms=(now - started) * 1000)
        self._end(deliveries, settled)
        for outcome, result in zip(outcomes, settled, strict=True):
            self._log(outcome, result, now - started)
        following = self._successor(now) if went_well else None
        if self._prefetch.is_time or not went_well:  # then the circuit is asked first, and at once
            self._woken.set()
        return following

    def _successor(self, now: float) -> list[Delivery] | None:
        """The next of those ahead, for the task that asks; where there is room for more, they are begun too."""
        if len(self._posts) >= self._max_at_once(now) or (following := self._prefetch.take()) is None:
            return None
        task = asyncio.current_task()
        assert task is not None
        self._posts[following[0].lease] = task
        self._begin_those_ahead(now)
        return following

    def _end(self, deliveries: list[Delivery], settled: list[Settlement]) -> None:
        self._ended.extend(settled)  # all of them, so that they go in one turn
        self._prefetch.note_ended()
        self._leases.end(deliveries)
        if self._suspect == deliveries[0].lease:
            self._suspect = None
        del self._posts[deliveries[0].lease]  # already here, so that the turn this wakes finds the room

    def _report(self, generation: int) -> Report:
        report = self._reports.get(generation)
        if report is None:
            report = self._reports[generation] = Report()
        return report

    def _count(self, generation: int, outcomes: Sequence[Outcome]) -> bool:
        """A POST counts once: what any of its events says against the endpoint. Whether none says anything."""
        report = self._report(generation)
        for outcome in outcomes:
            if isinstance(outcome, (Failed, Paused)):
                report.failures += 1
                report.why = outcome.reason
                if isinstance(outcome, Paused):
                    report.paused = True
                    report.min_pause = max(report.min_pause, outcome.min_pause)
                return False
        report.successes += 1  # a rejected event is the event's fault: the endpoint answered
        return True

    def _log(self, outcome: Outcome, settled: Settlement, seconds: float) -> None:
        delivery = settled.delivery
        waited = time.time() - delivery.accepted_at
        kind = _KINDS[type(outcome)]
        metrics.attempted(self._queue.endpoint, kind, seconds, waited)
        LOG.line(
            "delivery.attempted",
            {
                "id": delivery.id,
                "endpoint": self._queue.endpoint,
                "event": delivery.type,
                "session": delivery.session,
                "attempt": delivery.attempt,
                "outcome": kind,
                "status": outcome.status,
                "reason": None if isinstance(outcome, Delivered) else outcome.reason,
                "retry_in_ms": settled.argument if settled.disposition in ("retry", "return") else None,
                "ms": _tenths(seconds * 1000),
                "since_accepted_ms": _tenths(waited * 1000),
            },
        )


_KINDS: dict[type[Outcome], str] = {
    Delivered: "delivered",
    Failed: "failed",
    Paused: "paused",
    Rejected: "rejected",
}


def _tenths(ms: float) -> float:
    """To one digit; `round` is exact about halves, at ten times the cost."""
    return int(ms * 10 + 0.5) / 10


def _patience(admission: Admission) -> float:
    """Half-open, another process may close the circuit at any time; out of pace, the wait is known."""
    longest = _MAX_SLEEP if admission.state == "half-open" else _MAX_BLOCKED
    return min(admission.wait, longest)
