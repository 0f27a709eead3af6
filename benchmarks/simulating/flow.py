"""Events on their way: gateways, the slots of the queue, relays and a receiver with a bounded number of places.

Each session's events go one after the other, as the relay sends them. `cohort`: so many events move as one, which takes
as long as all of them one after the other; for loads of which a minute has millions.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from simulating.costs import PARTITIONS, Costs
from simulating.engine import Simulation, Station, share


@dataclass(frozen=True, slots=True)
class Situation:
    rate: float
    """Events that come in a second, at random moments."""
    seconds: float
    """For which they come."""
    receiver: float
    """Seconds that the receiver takes for one."""
    concurrency: int
    sessions: int = 1000
    gateways: int = 1
    relays: int = 1
    cohort: int = 1
    away: tuple[float, float] = (0.0, 0.0)
    """From when to when nothing can be delivered."""
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    accepted: int = 0
    delivered: int = 0
    waiting: int = 0
    """When no more came in."""
    most_waiting: int = 0
    p50: float = 0.0
    """Seconds from sent to delivered."""
    p99: float = 0.0
    drained_at: float = 0.0
    """When nothing waited any more, for the first time after `away`."""
    ended_at: float = 0.0


class Flow:
    def __init__(self, given: Situation, costs: Costs) -> None:
        self.given, self.costs = given, costs
        self.simulation = Simulation()
        self.random = Random(given.seed)
        self.gateways = Station(self.simulation, given.gateways)
        self.relays = Station(self.simulation, given.relays)
        self.partitions = [Station(self.simulation, 1) for _ in range(PARTITIONS)]
        self.places = max(1, given.concurrency // given.cohort)
        self.sessions: dict[int, deque[float]] = {}
        """Of each session: when what waits was sent. A delivery of the first may be under way."""
        self.ready: deque[int] = deque()
        """Sessions whose first event waits for a place."""
        self.inside = 0
        """Events that were sent and are not delivered, in cohorts."""
        self.outcome = Outcome()
        self._latencies: list[float] = []

    def run(self) -> Outcome:
        self._come()
        begin, end = self.given.away
        if end > begin:
            self.simulation.after(end, self._deliver)
        self.simulation.run(self.given.seconds)
        self.outcome.waiting = self.inside * self.given.cohort
        self.simulation.run()
        self._latencies.sort()
        self.outcome.p50, self.outcome.p99 = share(self._latencies, 0.5), share(self._latencies, 0.99)
        self.outcome.ended_at = self.simulation.now
        return self.outcome

    def _come(self) -> None:
        pause = self.random.expovariate(self.given.rate / self.given.cohort)
        if self.simulation.now + pause <= self.given.seconds:
            self.simulation.after(pause, self._sent)

    def _sent(self) -> None:
        self._come()
        sent, session = self.simulation.now, self.random.randrange(self.given.sessions)
        self.inside += 1
        self.outcome.most_waiting = max(self.outcome.most_waiting, self.inside * self.given.cohort)
        slot = self.partitions[session % PARTITIONS]
        cohort, costs = self.given.cohort, self.costs
        self.gateways.serve(
            cohort * costs.accept_gateway,
            lambda: slot.serve(cohort * costs.accept_store, lambda: self._accepted(session, sent)),
        )

    def _accepted(self, session: int, sent: float) -> None:
        self.outcome.accepted += self.given.cohort
        before = self.sessions.setdefault(session, deque())
        before.append(sent)
        if len(before) == 1 or self.given.cohort > 1:
            self.simulation.after(self.costs.pickup, lambda: self._becomes_ready(session))

    def _becomes_ready(self, session: int) -> None:
        self.ready.append(session)
        self._deliver()

    def _deliver(self) -> None:
        begin, end = self.given.away
        while self.places and self.ready and not begin <= self.simulation.now < end:
            self.places -= 1
            session = self.ready.popleft()
            self.relays.serve(
                self.given.cohort * self.costs.deliver_relay,
                lambda session=session: self.simulation.after(self.given.receiver, lambda: self._received(session)),
            )

    def _received(self, session: int) -> None:
        slot = self.partitions[session % PARTITIONS]
        slot.serve(self.given.cohort * self.costs.deliver_store, lambda: self._settled(session))

    def _settled(self, session: int) -> None:
        sent = self.sessions[session].popleft()
        self._latencies.append(self.simulation.now - sent)
        self.outcome.delivered += self.given.cohort
        self.inside -= 1
        self.places += 1
        if self.given.cohort == 1 and self.sessions[session]:
            self.ready.append(session)
        if not self.ready and not self.outcome.drained_at and self.simulation.now > self.given.away[1]:
            self.outcome.drained_at = self.simulation.now
        self._deliver()


def flow(given: Situation, costs: Costs) -> Outcome:
    return Flow(given, costs).run()


def knee(given: Situation, costs: Costs) -> float:
    """Events a second that are delivered where more come than can be: from there on the backlog grows."""
    many = Situation(1.5 * given.concurrency / given.receiver, **_others(given))
    outcome = flow(many, costs)
    return outcome.delivered / outcome.ended_at


def _others(given: Situation) -> dict[str, object]:
    return {name: getattr(given, name) for name in given.__slots__ if name != "rate"}
