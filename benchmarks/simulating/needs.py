"""What a number of sessions and events needs, and which part is full first: arithmetic on measured costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from simulating.costs import PARTITIONS, Costs

ROOM = 0.7
"""Of a core that one may use: above it waits grow, and a peak finds no room."""


@dataclass(frozen=True, slots=True)
class Load:
    sessions: int
    events: float
    """Webhooks a second."""
    requests: float = 0.0
    """Of Laravel to workers, a second; each meets three limits."""
    lease: float = 15.0
    per_worker: int = 100
    receiver: float = 0.02
    """Seconds that a receiver takes for an event."""
    outage: float = 3600.0
    """Seconds without the receiver that the backlog shall bridge."""


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    cores: float
    """That are busy all the time."""
    most: int | None
    """Cores that it can use at all; None: as many as there are."""
    why: str = ""

    @property
    def filled(self) -> float:
        """Of what it can use; 0 where that is not bounded."""
        return self.cores / (self.most * ROOM) if self.most else 0.0

    @property
    def needed(self) -> int:
        return math.ceil(self.cores / ROOM)


def parts(load: Load, costs: Costs) -> list[Part]:
    """With those first that are full first."""
    return sorted(_parts(load, costs), key=lambda part: -part.filled)


def _parts(load: Load, costs: Costs) -> Iterator[Part]:
    beats = load.sessions / 100 * costs.beat / (load.lease / 3)
    gateway = load.events * costs.accept_gateway + load.requests * costs.proxied
    queue = load.events * (costs.accept_store + costs.deliver_store)
    decisions = (load.events + load.requests) * costs.decide_store
    yield Part("registry of sessions, in the store", beats, 1, "all sessions lie in one slot (decision 11)")
    yield Part("queue, in the store", queue, PARTITIONS, f"all that waits lies in {PARTITIONS} slots (decision 2)")
    yield Part("limits, in the store", decisions, 1, "the buckets of a limit lie in one slot")
    yield Part("gateways", gateway, None, "any number of processes")
    yield Part("relays", load.events * costs.deliver_relay, None, "any number of processes")


def ceiling(costs: Costs, lease: float = 15.0) -> tuple[int, int]:
    """Sessions, and events a second, of one deployment, by what is full first."""
    sessions = ROOM / (costs.beat / 100 / (lease / 3))
    events = PARTITIONS * ROOM / (costs.accept_store + costs.deliver_store)
    return int(sessions), int(events)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    registry: float
    buckets: float
    backlog: float
    browsers: float


def memory(load: Load, costs: Costs) -> Memory:
    return Memory(
        registry=load.sessions * costs.session_bytes,
        buckets=3 * load.sessions * costs.bucket_bytes,
        backlog=load.events * load.outage * costs.event_bytes,
        browsers=load.sessions * costs.browser_bytes,
    )


def in_flight(load: Load) -> int:
    """Deliveries under way at a time (Little's law), so `concurrency` has to be at least that."""
    return math.ceil(load.events * load.receiver / ROOM)
