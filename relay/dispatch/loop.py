"""The loop that delivers what waits for one endpoint.

      +-------> poll: settle what has ended, report results to the circuit, get permits, lease what is due
      |           |
      |           |-- permits are plentiful: all of it in one round trip;
      |           |     leased --> prefetch --> free slots
      |           |-- permits are scarce (the circuit is not closed, or was closed a moment ago, or there is a pace):
      |           |     the circuit first, then the queue, so that nothing is leased that may not be sent;
      |           |     leased --> free slots
      |           |-- the circuit has opened, or a suspect is in flight: leased --> back to the queue, unsent
      |           |-- the store is away: nothing is lost, again in 0.2 s
      |           v
      |       sleep until an attempt ends, something is due, the queue's channel speaks, or half a second has passed in
      |           |     case it spoke in vain
      +-----------+
                  |-- stop requested: polls settle and lease nothing; what is prefetched goes back
                  v
                ended, when no attempt is in flight and everything is settled

    an attempt: slot taken --> POST --> settled, slot free --> the next of those prefetched --> POST ...
                                  |
                                  +--> failed: no successor, as the circuit is asked first; the poll begins at once

Where attempts are short a poll leases more than may be in flight (`prefetch.py`): so an attempt that went well finds a
successor, and polls are few and large, which is what makes them cheap. The parts: `permits.py` speaks for the circuit,
`slots.py` says how much may be in flight, `attempts.py` sends, `leases.py` keeps what is leased and settles what has
ended, `batching.py` puts several events into one POST.
"""

from __future__ import annotations

import asyncio
import time

from relay.circuit import Circuit
from relay.dispatch.attempts import Attempts, Sends
from relay.dispatch.batching import Batching, Posts
from relay.dispatch.leases import Leases
from relay.dispatch.permits import Permits
from relay.dispatch.prefetch import Prefetch
from relay.dispatch.slots import Slots
from relay.policies import Batch, Retry
from relay.queue.codec import Delivery
from relay.queue.queue import Polled, Queue, Settlement
from sluice.observe.log import Log
from sluice.process.boottime import boottime
from sluice.process.loops import Stop
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("relay")
_MAX_SLEEP = 0.5
_STORE_AWAY_SLEEP = 0.2
_STOP_TIMEOUT = 5.0  # seconds a stopping dispatcher waits for an absent store; what it cannot settle is sent again
_SETTLE_WAIT = 0.002  # seconds in which ended attempts are collected for one poll, while others take their slots


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
        self._batching = Batching(batch)
        self._prefetch = Prefetch(0 if batch else concurrency)
        self._permits = Permits(circuit)
        self._slots = Slots(concurrency, self._permits)
        self._leases = Leases(queue)
        self._woken = asyncio.Event()
        self._attempts = Attempts(
            *(queue.endpoint, sender, retry, queue.newest, queue.suspects, self._woken),
            permits=self._permits,
            slots=self._slots,
            leases=self._leases,
            prefetch=self._prefetch,
            in_batches=batch is not None,
        )
        self._away_since: float | None = None
        self._looked_everywhere_at = 0.0
        self._polled_at: float | None = None

    @property
    def seconds_stuck(self) -> float:
        """Seconds since its last poll, while it runs."""
        return time.monotonic() - self._polled_at if self._polled_at is not None else 0.0

    def wake(self, partitions: bytes) -> None:
        """Something new waits. `partitions`: a message of the queue's channel."""
        self._queue.wake(partitions)
        self._woken.set()

    async def run(self, stop: Stop) -> None:
        """Until stopped; then no more is leased, attempts in flight are finished and settled."""
        self._polled_at = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                beside = [group.create_task(self._wake_on(stop)), group.create_task(self._leases.extend_forever())]
                wait = await self._run_once_or_wait(stop)
                while not self._is_over(stop):
                    await self._sleep(wait)
                    wait = await self._run_once_or_wait(stop)
                for task in beside:
                    task.cancel()
        finally:
            self._polled_at = None
            self._slots.cancel()

    async def run_once(self, *, leasing: bool = True) -> float:
        """One poll. Returns seconds until the next one makes sense.

        Raises StoreAway or StoreRefused, having lost nothing.
        """
        now = time.monotonic()
        if now - self._looked_everywhere_at >= _MAX_SLEEP:
            self._looked_everywhere_at = now
            self._queue.look_everywhere()
        plentiful = self._permits.are_plentiful(now)
        self._return(self._prefetch.take_stale(now) if leasing and plentiful else self._prefetch.take_all())
        self._prefetch.note_poll()
        capacity = self._capacity(now, plentiful) if leasing else 0
        want = self._wanted(capacity, now)
        sent_at = boottime()
        posts = await (self._poll_at_once(want) if plentiful else self._poll_in_two(want))
        self._polled_at = now = time.monotonic()
        for deliveries in posts:
            self._leases.begin(deliveries, sent_at)
        if plentiful:
            self._prefetch.add(posts, now)
            self._attempts.begin_prefetched(now)
        else:
            for deliveries in posts:
                self._attempts.begin(deliveries)
        return self._until_next_poll(capacity - len(posts))

    # --- polling

    async def _poll_at_once(self, want: int) -> Posts:
        """Should the circuit no longer be closed, what was leased goes back before anything is sent."""
        settled, reports = self._leases.ended(), self._permits.take_reports()
        if not want and not reports:
            if settled:
                await self._poll(settled, 0)
            return []
        call = self._permits.call(want, reports)
        try:
            answer, polled = await self._queue.poll_with(call, settled, self._batching.deliveries(want))
        except (StoreAway, StoreRefused):
            self._permits.put_back(reports)
            raise
        self._leases.note_settled(settled, polled.refused)
        self._permits.read(answer, want)
        if self._permits.admission.state != "closed":
            self._return(polled.leased + self._prefetch.take_all())
            return []
        posts, back = self._sendable(polled.leased, want)
        self._return(back)
        return posts

    async def _poll_in_two(self, want: int) -> Posts:
        settled = self._leases.ended()  # what ends while the circuit is asked is left for the next poll to report
        permits = await self._permits.ask(want)
        generation = self._permits.admission.generation
        if not settled and not permits:
            return []
        try:
            leased = (await self._poll(settled, permits)).leased
        except (StoreAway, StoreRefused):
            self._permits.give_back(generation, permits)
            raise
        posts, back = self._sendable(leased, permits)
        self._return(back)
        self._permits.give_back(generation, permits - len(posts))
        return posts

    async def _poll(self, settled: list[Settlement], permits: int) -> Polled:
        polled = await self._queue.poll(settled, self._batching.deliveries(permits))
        self._leases.note_settled(settled, polled.refused)
        return polled

    def _return(self, unsent: list[Delivery]) -> None:
        self._slots.forget_suspect(unsent)
        self._leases.return_unsent(unsent)

    # --- how much

    def _capacity(self, now: float, plentiful: bool) -> int:
        """For how many more POSTs, those to be prefetched included."""
        return self._slots.free(now) + (self._prefetch.capacity if plentiful else -len(self._prefetch))

    def _wanted(self, capacity: int, now: float) -> int:
        """For how many POSTs to lease."""
        if capacity <= 0 or not self._permits.may_ask(now):
            return 0
        is_due, settles = self._queue.next_due() == 0, not self._leases.are_settled
        return self._batching.wanted(capacity, now, is_due=is_due, settles=settles)

    def _sendable(self, leased: list[Delivery], permits: int) -> tuple[Posts, list[Delivery]]:
        """The POSTs that are made of what was leased, and what goes back."""
        return self._slots.isolate_suspect(*self._batching.posts(leased, permits)) if permits else ([], [])

    # --- sleeping and stopping

    def _until_next_poll(self, capacity: int) -> float:
        if self._prefetch:
            return 0.0 if self._prefetch.is_poll_due else _SETTLE_WAIT
        if not self._leases.are_settled:
            return 0.0
        if capacity <= 0:
            return _MAX_SLEEP
        now = time.monotonic()
        return max(self._queue.next_due(), self._permits.blocked_for(now), self._batching.remaining(now))

    async def _run_once_or_wait(self, stop: Stop) -> float:
        try:
            wait = await self.run_once(leasing=not stop.requested)
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

    def _is_over(self, stop: Stop) -> bool:
        settled = self._leases.are_settled or self._away_for() > _STOP_TIMEOUT
        return stop.requested and not len(self._slots) and not self._prefetch and settled
