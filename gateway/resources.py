"""What a gateway's process has at hand: the console, the metrics and the health checks look at it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.alerts.board import Known
from gateway.policies import Policies
from gateway.tokens import TokenGuard
from relay.inflow import Inflow
from relay.progress import Progress
from relay.queue.queue import Queue
from sessions.existing import WatchedWorker
from sessions.instances import Instances
from sessions.profiles.summary import VaultSummary
from sessions.registry import Registry
from sluice.config.live import LivePolicies
from sluice.http.server.certificates import Certificate
from sluice.process.loops import Stop
from sluice.store.client import Store


def _no_vault() -> VaultSummary | None:
    return None


def _no_alerts() -> Known | None:
    return None


def _nobody() -> Sequence[WatchedWorker]:
    return ()


@dataclass(frozen=True, slots=True)
class Resources:
    policies: Policies
    store: Store
    registry: Registry
    queues: Mapping[str, Queue]
    live: LivePolicies[Policies]
    inflows: defaultdict[str, Inflow] = field(default_factory=lambda: defaultdict(Inflow))
    """By endpoint; the same through all edits, as are those below."""
    progress: Progress = field(default_factory=Progress)
    watched: Callable[[], Sequence[WatchedWorker]] = _nobody
    """The existing workers, as this process last saw them."""
    began: float = field(default_factory=time.monotonic)
    """When this gateway was opened, in monotonic seconds."""
    instances: Instances = field(default_factory=Instances)
    """What the existing workers call themselves, as this process has heard it."""
    certificates: Sequence[Certificate] = ()
    """Of the listeners of this process that have TLS."""
    tokens: TokenGuard = field(default_factory=TokenGuard)
    """Who may ask with `console.token`, and how often with a wrong one."""
    vault: Callable[[], VaultSummary | None] = _no_vault
    """How it stood when this process last looked."""
    stop: Stop = field(default_factory=Stop)
    """Requested when answers that have no end have to end."""
    alerts: Callable[[], Known | None] = _no_alerts
    """What goes wrong and who was told, as this process last read it."""
