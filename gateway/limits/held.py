"""Requests that wait for tokens: limits with `over: hold`.

Who is refused by such limits alone waits in line for the bucket that refuses it for longest, until the bucket has its
tokens, until its time is over, until its caller hangs up, or until the gateway stops; then it is refused with 503. Only
the first of a line asks the store, at the moment that the store has told it. The tokens are taken when it passes and
not before, so no more passes than the limit allows, whoever leaves the line, and whatever becomes of the gateway. In
the store the first ones of several gateways are in the order in which they came (take.lua).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from bisect import insort
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from gateway import metrics
from gateway.limits.applicable import HOLD, OBSERVE, Bucket, Ticket
from gateway.limits.decide import Decision, wait
from gateway.limits.limiter import Limiter
from gateway.problems import ClientGone, Refusal
from sluice.http.bodies import BodyBudget
from sluice.http.server import Exchange
from sluice.store.client import Store, StoreAway, StoreRefused

MOST = 1000
"""Requests of one process."""
_SOONEST = 0.01  # seconds until the store is asked again


class _Waiting:
    """A request in line."""

    def __init__(self, ticket: Ticket, buckets: Sequence[Bucket]) -> None:
        self.ticket = ticket
        self.buckets = [replace(bucket, ticket=ticket) if bucket.mode == HOLD else bucket for bucket in buckets]
        self.counted = False
        """By limits that only observe."""
        self.behind: Bucket | None = None
        """In whose line it stands."""
        self.ask_at = 0.0
        """Monotonic: not before that has the bucket its tokens, as far as is known."""
        self.gone = False
        self.woken = asyncio.Event()

    def __lt__(self, other: _Waiting) -> bool:
        return self.ticket.since < other.ticket.since

    def hang_up(self) -> None:
        self.gone = True
        self.woken.set()


class HeldRequests:
    """Of one process. `bodies`: of its budget at most a quarter is held here."""

    def __init__(self, limiter: Limiter, store: Store, bodies: BodyBudget) -> None:
        self._limiter = limiter
        self._store = store
        self._bodies = bodies
        self._lines: dict[str, list[_Waiting]] = {}
        """By the key of the bucket, each in the order in which they came."""
        self._name = secrets.token_hex(8)
        self._number = self._held = self._bytes = 0
        self._stopped = False
        self._leaving: set[asyncio.Task[None]] = set()

    async def take(self, buckets: Sequence[Bucket], size: int, since: float, exchange: Exchange) -> Decision:
        """As `Limiter.take`, but a request that only limits with `over: hold` refuse waits first, as long as they say.

        `since`: when it came (monotonic); `size`: of its body. The verdict is `hold` where it has waited in vain, or
        there is no room to wait. Raises ClientGone, and Refusal 503 when the gateway stops.
        """
        self._number += 1
        waiting = _Waiting(Ticket(f"{self._name}{self._number}", since), buckets)
        line = next((it for it in waiting.buckets if it.mode == HOLD and it.key in self._lines), None)
        if line is None:
            decision = await self._ask(waiting)
            if decision.verdict != "hold":
                return decision
            line = _longest(waiting, decision)
        else:
            decision = Decision("hold", line.limit.id, wait(line, 0.0), violated=(line.limit.id,))
        if self._held >= MOST or self._bytes + size > self._bodies.limit // 4:
            self._leave_store(waiting)
        else:
            self._count(1, size)
            metrics.decided(line.limit.id, "held")
            try:
                decision = await self._hold(waiting, line, decision, exchange)
            finally:
                self._count(-1, -size)
        if decision.verdict == "hold":
            for limit in decision.violated:
                metrics.decided(limit, "rejected")
        return decision

    async def _hold(self, waiting: _Waiting, line: Bucket, decision: Decision, exchange: Exchange) -> Decision:
        ends = waiting.ticket.since + line.limit.hold
        self._enter(waiting, line)
        exchange.on_disconnect(waiting.hang_up)
        try:
            while decision.verdict == "hold" and await self._until_it_may_ask(waiting, ends):
                decision = await self._ask(waiting)
                if decision.verdict == "hold":
                    self._enter(waiting, _longest(waiting, decision))
            return decision
        finally:
            passed = decision.verdict == "pass"
            self._go(waiting, passed=passed)
            if not passed:
                self._leave_store(waiting)

    async def _until_it_may_ask(self, waiting: _Waiting, ends: float) -> bool:
        """Waits until it is the first of its line and has been told to ask; False: its time is over first."""
        while True:
            if waiting.gone:
                raise ClientGone
            if self._stopped:
                raise Refusal(503, "the gateway stops; send it again", retry_after=b"1")
            assert waiting.behind is not None
            now = time.monotonic()
            first = self._lines[waiting.behind.key][0] is waiting
            until = min(ends, waiting.ask_at) if first else ends
            if now >= until:
                return until < ends
            waiting.woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(until - now):
                    await waiting.woken.wait()

    async def _ask(self, waiting: _Waiting) -> Decision:
        """Limits that only observe count the request when it asks for the first time."""
        wanted = waiting.buckets
        if waiting.counted:
            wanted = [bucket for bucket in wanted if bucket.mode != OBSERVE]
        waiting.counted = True
        decision = await self._limiter.take(wanted)
        waiting.ask_at = time.monotonic() + max(decision.retry_after, _SOONEST)
        if decision.levels and len(wanted) < len(waiting.buckets):
            levels = iter(decision.levels)
            decision.levels = [0.0 if it.mode == OBSERVE else next(levels) for it in waiting.buckets]
        return decision

    def _enter(self, waiting: _Waiting, bucket: Bucket) -> None:
        if waiting.behind is not None and waiting.behind.key == bucket.key:
            return
        self._go(waiting, passed=True)
        waiting.behind = bucket
        insort(self._lines.setdefault(bucket.key, []), waiting)

    def _go(self, waiting: _Waiting, *, passed: bool) -> None:
        """Out of its line. Those behind need not wait for its tokens, unless it has taken them."""
        bucket, waiting.behind = waiting.behind, None
        if bucket is None:
            return
        line = self._lines[bucket.key]
        at = line.index(waiting)
        del line[at]
        if not line:
            del self._lines[bucket.key]
            return
        for other in line[at:] if not passed else ():
            other.ask_at -= bucket.cost * bucket.interval
        line[0].woken.set()

    def _leave_store(self, waiting: _Waiting) -> None:
        """So that nobody waits there until its place lapses."""
        lines = [bucket.line for bucket in waiting.buckets if bucket.mode == HOLD]
        leaving = asyncio.create_task(self._delete(lines, waiting.ticket.id))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _delete(self, lines: Sequence[str], who: str) -> None:
        with suppress(StoreAway, StoreRefused):
            await self._store.commands(*(("HDEL", line, who) for line in lines))

    def _count(self, requests: int, size: int) -> None:
        self._held += requests
        self._bytes += size
        metrics.waiting_for_tokens(self._held)

    def stop(self) -> None:
        """Nobody waits any more: who does is refused, and comes again elsewhere."""
        self._stopped = True
        for line in self._lines.values():
            for waiting in line:
                waiting.woken.set()

    async def close(self) -> None:
        await asyncio.gather(*self._leaving)


def _longest(waiting: _Waiting, decision: Decision) -> Bucket:
    """The bucket that holds it for longest."""
    return next(bucket for bucket in waiting.buckets if bucket.limit.id == decision.limit)
