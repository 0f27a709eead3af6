"""One look at everything that only the store, the machine or this process knows: for the console and the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.alerts.board import Known
from gateway.outbox import waiting
from gateway.outbox.waiting import WaitingSends
from gateway.resources import Resources
from relay import presence
from relay.circuit import CircuitStatus
from relay.policies import OUTBOX
from relay.process import open_circuit
from relay.queue.queue import Counts
from relay.queue.stranded import stranded
from sessions import divided
from sessions.lifecycle.cleanings import Cleanings, cleanings
from sessions.profiles import troubles
from sessions.profiles.summary import VaultSummary
from sessions.profiles.troubles import Trouble
from sessions.registry import Notice, Rival, Summary
from sessions.shifting import Scaling
from sessions.signs import NotedFault
from sluice.process.disk import Disk, disk_of
from sluice.store import clock
from sluice.store.client import StoreAway, StoreRefused
from sluice.store.clock import Jump
from sluice.store.health import StoreHealth, health_of

T = TypeVar("T")
_RIVALS = 5
_UNTOLD = 100
_FAULTS = 50


@dataclass(frozen=True, slots=True)
class Look:
    """What the store did not tell is None."""

    why_away: str | None
    """Why the store did not answer, or not everything."""
    store: StoreHealth | None
    relays: int | None
    counts: Mapping[str, Counts | None]
    """By endpoint of the policies, as the next."""
    circuits: Mapping[str, CircuitStatus | None]
    stranded: Mapping[str, Counts]
    """What lies in the store for endpoints that the policies do not name."""
    sessions: Summary | None
    rivals: Sequence[Rival]
    """Some of the sessions on existing workers whose phone another one has."""
    scaling: Scaling | None
    cleanings: Cleanings | None
    """None also where no policy asks for them."""
    untold: Sequence[Notice]
    """Some of the ended sessions of which Laravel has not been told yet."""
    faults: Mapping[str, NotedFault]
    """Of some of the sessions that are not well though somebody runs them, by session."""
    divided: Mapping[str, float] | None
    """When each existing worker last got the list of its own sessions (unix seconds)."""
    jump: Jump | None
    """The last one of the store's clock, of the last hour."""
    disk: Disk | None
    vault: VaultSummary | None
    """None: there is none, or it was not looked at yet."""
    troubles: Sequence[Trouble]
    """Of profiles; empty where there is no vault."""
    sends: WaitingSends | None = None
    """None also where no limit keeps any."""
    alerts: Known | None = None
    """As this process last read them."""


def nothing_known(resources: Resources) -> Look:
    """Without the store: what the machine and this process know."""
    endpoints = resources.policies.relay.endpoints
    return Look(
        why_away=None,
        store=None,
        relays=None,
        counts=dict.fromkeys(endpoints),
        circuits=dict.fromkeys(endpoints),
        stranded={},
        sessions=None,
        rivals=(),
        scaling=None,
        cleanings=None,
        untold=(),
        faults={},
        divided=None,
        jump=None,
        disk=disk_of(resources.policies.data),
        vault=None,
        troubles=(),
    )


async def look(resources: Resources) -> Look:
    """Costs as much as there are endpoints and workers, not events or sessions."""
    store, endpoints, failures = resources.store, resources.policies.relay.endpoints, list[str]()

    async def if_known(work: Awaitable[T]) -> T | None:
        try:
            return await work
        except (StoreAway, StoreRefused) as failure:
            failures.append(str(failure))
            return None

    async def health() -> StoreHealth | None:
        try:
            return await health_of(store)
        except (StoreAway, StoreRefused):  # a managed store may not let itself be asked
            return None

    async def of_profiles() -> Sequence[Trouble]:
        return await troubles.known(store) if resources.policies.sessions.vault else ()

    async def of_sends() -> WaitingSends | None:
        kept = OUTBOX in resources.policies.relay.endpoints
        return await waiting.look(store, resources.registry, resources.policies) if kept else None

    async def of_cleaning() -> Cleanings | None:
        return await cleanings(store) if resources.policies.sessions.cleanup else None

    (
        (known, relays, jump),
        (sessions, scaling, divided_at, in_trouble),
        (rivals, faults, untold, cleaned),
        (counts, circuits, left, sends),
    ) = await asyncio.gather(
        asyncio.gather(health(), if_known(presence.alive(store)), if_known(clock.last_jump(store))),
        asyncio.gather(
            if_known(resources.registry.summary()),
            if_known(resources.registry.scaling()),
            if_known(divided.moments(store)),
            if_known(of_profiles()),
        ),
        asyncio.gather(
            if_known(resources.registry.rivals(_RIVALS)),
            if_known(resources.registry.faults(_FAULTS)),
            if_known(resources.registry.notices((), _UNTOLD)),
            if_known(of_cleaning()),
        ),
        asyncio.gather(
            asyncio.gather(*(if_known(resources.queues[name].counts()) for name in endpoints)),
            asyncio.gather(*(if_known(open_circuit(store, endpoint).view()) for endpoint in endpoints.values())),
            if_known(stranded(store, endpoints)),
            if_known(of_sends()),
        ),
    )
    return Look(
        why_away=failures[0] if failures else None,
        store=known,
        relays=relays,
        counts=dict(zip(endpoints, counts, strict=True)),
        circuits=dict(zip(endpoints, circuits, strict=True)),
        stranded=left or {},
        sessions=sessions,
        scaling=scaling,
        rivals=rivals or (),
        cleanings=cleaned,
        untold=untold or (),
        faults=faults or {},
        divided=divided_at,
        jump=jump,
        disk=disk_of(resources.policies.data),
        vault=resources.vault(),
        troubles=in_trouble or (),
        sends=sends,
        alerts=resources.alerts(),
    )
