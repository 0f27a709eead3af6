"""How a worker is reached, for whoever has more to note than a request that is passed on."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.workers.connections import WorkerConnections
from gateway.workers.reach import Reach
from gateway.workers.until_restored import UntilRestored


@dataclass(frozen=True, slots=True)
class Ways:
    reach: Reach
    connections: WorkerConnections
    until_restored: UntilRestored
