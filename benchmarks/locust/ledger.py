"""One token bucket, seen from outside.

From outside nobody sees when the server decided, only that it was between sending and having the answer. So a bucket
here is not one level but two bounds, and an answer is called wrong only when no moment in between could make it right:

over-admission   the requests that were sent after `a` and answered before `b` took their tokens between `a` and `b`.
                 They may be burst + rate x (b - a) at most, for every a and b.
wrong refusal    let every request that passed have taken its tokens as late as it can, and every one that is under
                 way or lost have taken them already. If there is a token even then, there was one.

No I/O, no clock: every call is told the time, in seconds of one monotonic clock that never goes back.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

DRIFT = 5e-4
"""How much faster one clock may go than the other: the most by which NTP slews a clock (RFC 5905, 500 ppm)."""
TOLERANCE = 1e-6
"""Tokens that are none."""
_GRAIN = 1e-3  # seconds; a wait is told, and kept, in milliseconds
_ROUNDING = 1e-9  # of sums of floating-point numbers
_LATE = 5.0  # seconds in which a server may still work on a request whose client has gone


@dataclass(slots=True)
class Flight:
    """A request under way, in one bucket."""

    sent: float
    cost: float
    number: int = 0
    """How many were sent to the bucket before it, and it."""


@dataclass(frozen=True, slots=True)
class Excess:
    """More than the limit: what passed in a window, and what may have."""

    passed: float
    seconds: float
    allowed: float

    def __str__(self) -> str:
        return f"{self.passed:g} passed in {self.seconds:.3f} s, at most {self.allowed:.2f}"


class Ledger:
    """One bucket seen from outside. `full`: it is known to be full at `now`; else it may be anything, even empty."""

    def __init__(self, rate: float, burst: float, now: float, *, full: bool) -> None:
        self._rate, self._burst, self._zero = rate, burst, now
        self._flights: dict[int, Flight] = {}
        self._under_way = 0.0
        # the upper bound: how much of what was sent at or after each moment has passed
        self._starts: list[float] = []
        self._passed: list[float] = []
        self._settled: tuple[float, float] | None = None  # the tightest of the moments before any request under way
        # the lower bound: what has passed lately, and when before that the bucket would be full again, times the rate
        self._taken: deque[tuple[float, float, float]] = deque()  # when, how much, and that product right after it
        self._owed = 0.0 if full else burst
        self._unanswered: deque[tuple[float, float]] = deque()  # until when they may take their tokens, and how many
        self._sent = 0
        self._promise: tuple[float, float, int] | None = None  # until when to wait, for what cost, and after which one
        self.over = 0.0
        """Tokens by which the limit was exceeded at worst."""

    def send(self, now: float, cost: float) -> Flight:
        while self._unanswered and self._unanswered[0][0] <= now - self._zero:
            at, lost = self._unanswered.popleft()
            self._under_way -= lost
            self._take(at, lost)
        self._sent += 1
        flight = Flight(now - self._zero, cost, self._sent)
        self._flights[id(flight)] = flight
        self._under_way += cost
        return flight

    def gave_back(self, flight: Flight) -> None:
        """It took nothing: another bucket refused."""
        self._land(flight)

    def unclear(self, flight: Flight, now: float) -> None:
        """It may have taken its tokens: the lower bound says that it has, the upper one that it has not."""
        self._land(flight)
        self._take(now - self._zero, flight.cost)

    def unanswered(self, flight: Flight, now: float) -> None:
        """The same, but it may take them a while from now."""
        self._unanswered.append((now - self._zero + _LATE, flight.cost))
        del self._flights[id(flight)]

    def passed(self, flight: Flight, now: float) -> Excess | None:
        """What it proves, when it proves more over-admission than was known of this bucket."""
        self._land(flight)
        end = now - self._zero
        self._take(end, flight.cost)
        self._count(flight)
        start, passed = self._tightest()
        allowed = self._burst + self._rate * (1 + DRIFT) * (end - start)
        over = passed - allowed
        if over <= self.over + TOLERANCE:
            return None
        self.over = over
        return Excess(passed, end - start, allowed)

    def refused(self, flight: Flight) -> bool:
        """True: wrongly. Whatever the moment, there were tokens for it."""
        self._land(flight)
        return self.had(flight.sent + self._zero, flight.cost)

    def promise(self, flight: Flight, until: float) -> None:
        """It was refused, and is to pass from `until` on if nobody else asks meanwhile."""
        self._promise = None if self._flights else (until - self._zero, flight.cost, self._sent)

    def was_promised(self, flight: Flight) -> bool:
        """Whether it came when it was to pass, for no more than was to pass, and was the next one."""
        if self._promise is None:
            return False
        until, cost, number = self._promise
        return flight.sent >= until and flight.cost <= cost and flight.number == number + 1

    def had(self, since: float, cost: float) -> bool:
        """Were there so many tokens at any moment from `since` to now, whatever became of what is under way?"""
        start, later = max(0.0, since - self._zero - _GRAIN), 0.0
        owed = self._owed
        for at, taken, after in reversed(self._taken):
            if at <= start:
                owed = after
                break
            later += taken
        owed = max(0.0, owed - self._rate * (1 - DRIFT) * start)
        return self._burst - owed - later - self._under_way >= cost - _ROUNDING

    def _land(self, flight: Flight) -> None:
        del self._flights[id(flight)]
        self._under_way -= flight.cost

    def _take(self, at: float, cost: float) -> None:
        last = self._taken[-1] if self._taken else (0.0, 0.0, self._owed)
        at = max(at, last[0])
        self._taken.append((at, cost, max(last[2], self._rate * (1 - DRIFT) * at) + cost))
        oldest = self._oldest() - _GRAIN
        while self._taken and self._taken[0][0] <= oldest:  # nothing under way was sent before it
            _, _, self._owed = self._taken.popleft()

    def _count(self, flight: Flight) -> None:
        at = bisect_left(self._starts, flight.sent)
        later = self._passed[at] if at < len(self._starts) else 0.0
        if at == len(self._starts) or self._starts[at] != flight.sent:
            self._starts.insert(at, flight.sent)
            self._passed.insert(at, later)
        for i in range(at + 1):
            self._passed[i] += flight.cost
        if self._settled:
            self._settled = (self._settled[0], self._settled[1] + flight.cost)
        self._settle()

    def _oldest(self) -> float:
        """When the first of those under way was sent."""
        return next(iter(self._flights.values())).sent if self._flights else math.inf

    def _settle(self) -> None:
        """What comes later is sent after all of these moments: from now on they grow alike, so the tightest stands."""
        old = bisect_left(self._starts, self._oldest())
        if old:
            known = [*zip(self._starts[:old], self._passed[:old], strict=True)]
            self._settled = max([self._settled, *known] if self._settled else known, key=self._tightness)
            del self._starts[:old], self._passed[:old]

    def _tightest(self) -> tuple[float, float]:
        known = zip(self._starts, self._passed, strict=True)
        return max([self._settled, *known] if self._settled else known, key=self._tightness)

    def _tightness(self, window: tuple[float, float]) -> float:
        start, passed = window
        return passed + self._rate * (1 + DRIFT) * start
