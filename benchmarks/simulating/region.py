"""A part of the workers is lost at one moment: until when does each of their sessions run elsewhere?

A lost worker's lease ends between two thirds and all of a lease later. From then on the keeper of each gateway grants
orphans in rounds, through the one slot of the registry, which serves the beats of all other workers too; and a worker
that was given sessions starts so many of them at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from simulating.costs import (
    LAPSING_AT_ONCE,
    LOOKED_AT,
    ROUND,
    ROUND_OF,
    START_AT_ONCE,
    WORKER_ROUND_OF,
    Costs,
)
from simulating.engine import Simulation, Station, share


@dataclass(frozen=True, slots=True)
class Loss:
    workers: int
    """Before."""
    lost: int
    each: int
    """Sessions of a worker."""
    gateways: int
    """That are left."""
    lease: float = 15.0
    start: float = 0.0
    """Seconds that one start takes; 0: they count as running once they are granted."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds after the loss."""

    sessions: int
    granted: float
    """When the last one has an owner."""
    half: float
    most: float
    """Of 99 in 100."""
    all: float
    registry: float
    """How busy its core was until all were granted."""


class Region:
    def __init__(self, given: Loss, costs: Costs) -> None:
        self.given, self.costs = given, costs
        self.simulation = Simulation()
        self.random = Random(given.seed)
        self.registry = Station(self.simulation, 1)
        self.left = given.workers - given.lost
        self.starts = [Station(self.simulation, START_AT_ONCE) for _ in range(self.left)]
        self.held = [given.each] * self.left
        self.orphans = 0
        self.granted = 0
        self.granted_at = 0.0
        self.running: list[float] = []
        self._next = 0

    def run(self) -> Recovery:
        given = self.given
        sessions = given.lost * given.each
        for _ in range(given.lost):
            self.simulation.after(given.lease * (1 - self.random.random() / 3), self._lapse)
        for _ in range(self.left):
            self.simulation.after(self.random.random() * given.lease / 3, self._beat)
        for _ in range(given.gateways):
            self.simulation.after(given.lease * 2 / 3 + self.random.random() * ROUND, self._round)
        self.simulation.run()
        self.running.sort()
        half, most = share(self.running, 0.5), share(self.running, 0.99)
        busy = self.registry.utilization(self.granted_at)
        return Recovery(sessions, self.granted_at, half, most, self.running[-1], busy)

    @property
    def over(self) -> bool:
        return self.granted == self.given.lost * self.given.each

    def _lapse(self) -> None:
        each = self.given.each
        self.registry.serve(self.costs.lapse * each / LAPSING_AT_ONCE, lambda: self._orphaned(each))

    def _orphaned(self, sessions: int) -> None:
        self.orphans += sessions

    def _beat(self) -> None:
        if not self.over:
            self.registry.serve(self.costs.beat * self.given.each / 100, lambda: None)
            self.simulation.after(self.given.lease / 3, self._beat)

    def _round(self) -> None:
        """Of one gateway: it has asked when the registry has answered, and waits before it asks again."""
        if not self.over:
            self.registry.serve(self.costs.place, self._grant)

    def _grant(self) -> None:
        able = min(LOOKED_AT, self.left)
        number = min(self.orphans, ROUND_OF, able * WORKER_ROUND_OF)
        self.orphans -= number
        given_to: set[int] = set()
        for index in range(number):
            worker = (self._next + index % able) % self.left
            given_to.add(worker)
            self._start(worker)
        self._next = (self._next + able) % self.left
        self.granted += number
        if number:
            self.granted_at = self.simulation.now
        for _ in given_to:
            self.registry.serve(self.costs.beat_changed * self.given.each / 100, lambda: None)
        self.simulation.after(ROUND, self._round)

    def _start(self, worker: int) -> None:
        self.held[worker] += 1
        seconds = self.given.start * (0.5 + self.random.random())
        self.starts[worker].serve(seconds, lambda: self.running.append(self.simulation.now))


def recover(given: Loss, costs: Costs) -> Recovery:
    return Region(given, costs).run()
