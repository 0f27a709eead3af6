"""Looks at everything that a person wants on one screen."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from prometheus_client.samples import Sample

from gateway.policies import Policies
from relay import presence
from relay.inflow import Inflow
from relay.policies import Endpoint
from relay.process import open_circuit
from relay.queue.queue import Queue
from relay.queue.stranded import stranded
from sessions.registry import Summary, WorkerRow
from sluice.config.live import LivePolicies
from sluice.console.actions.circuits import circuit_of
from sluice.console.actions.deployment import Deployment, moment
from sluice.console.messages import messages
from sluice.console.status import (
    Backlog,
    ClockJump,
    EndpointStatus,
    LimitDecisions,
    PoliciesStatus,
    PolicyProblem,
    RemovedEndpoint,
    RequestCounts,
    SessionCounts,
    ShowStatus,
    Status,
    StoreStatus,
    Traffic,
    WorkerStatus,
)
from sluice.observe import metrics
from sluice.store import clock
from sluice.store.client import StoreAway, StoreRefused

_REQUESTS = "sluice_requests_total"
_EVENTS = "sluice_events_accepted_total"
_REFUSED = "sluice_events_refused_total"
_DECISIONS = "sluice_limit_decisions_total"

T = TypeVar("T")


class RunningGateway(Deployment, Protocol):
    """What only a gateway's process knows; `gateway.reload.Resources` is one."""

    @property
    def queues(self) -> Mapping[str, Queue]: ...
    @property
    def live(self) -> LivePolicies[Policies]: ...
    @property
    def inflows(self) -> defaultdict[str, Inflow]: ...


async def show(gateway: RunningGateway, _: ShowStatus) -> Status:
    """Everything on one screen; while the store is away, what only it knows is null or empty."""
    look = _Look()
    policies, registry = gateway.policies, gateway.registry
    relays, sessions, jump, endpoints, removed, traffic = await asyncio.gather(
        look.at(presence.alive(gateway.store)),
        look.at(registry.summary()),
        look.at(clock.last_jump(gateway.store)),
        asyncio.gather(*(_endpoint(look, gateway, endpoint) for endpoint in policies.relay.endpoints.values())),
        look.at(stranded(gateway.store, policies.relay.endpoints)),
        asyncio.to_thread(_traffic, policies),  # reads the files of every process
    )
    status = Status(
        at=datetime.now(UTC),
        revision=policies.revision,
        policies=_policies(gateway.live),
        promise=policies.store.promise,
        store=StoreStatus(not look.failures, look.failures[0] if look.failures else None),
        relays=relays,
        traffic=traffic,
        endpoints=dict(zip(policies.relay.endpoints, endpoints, strict=True)),
        removed=tuple(
            RemovedEndpoint(name, one.waiting, one.leased, one.dead) for name, one in (removed or {}).items()
        ),
        workers=tuple(_worker(row, registry.lease) for row in (sessions.workers if sessions else ())),
        sessions=_sessions(sessions),
        clock_jump=ClockJump(jump.seconds, jump.ago, jump.offset) if jump else None,
    )
    return replace(status, messages=tuple(messages(status)))


class _Look:
    """Looks at the store and remembers what could not be seen."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    async def at(self, work: Awaitable[T]) -> T | None:
        try:
            return await work
        except (StoreAway, StoreRefused) as failure:
            self.failures.append(str(failure))
            return None


def _policies(live: LivePolicies[Policies]) -> PoliciesStatus:
    problems = tuple(PolicyProblem(one.line, one.column, one.key, one.message, one.hint) for one in live.problems)
    return PoliciesStatus(str(live.current.source), moment(live.loaded_at), problems, tuple(live.needs_restart))


async def _endpoint(look: _Look, gateway: RunningGateway, endpoint: Endpoint) -> EndpointStatus:
    counts, circuit = await asyncio.gather(
        look.at(gateway.queues[endpoint.name].counts()), look.at(open_circuit(gateway.store, endpoint).view())
    )
    backlog = gateway.policies.relay.backlog
    return EndpointStatus(
        circuit=circuit_of(endpoint.name, circuit) if circuit else None,
        waiting=counts.waiting if counts else None,
        leased=counts.leased if counts else None,
        dead=counts.dead if counts else None,
        bytes=counts.bytes if counts else None,
        oldest_due_s=counts.oldest_due if counts else None,
        accepted=counts.accepted if counts else None,
        delivered=counts.delivered if counts else None,
        retried=counts.retried if counts else None,
        replaced=counts.replaced if counts else None,
        expired=counts.expired if counts else None,
        inflow=gateway.inflows[endpoint.name].per_second,
        rate=1 / endpoint.rate.interval if endpoint.rate else None,
        max_per_second=_max_per_second(endpoint),
        backlog=Backlog(backlog.events, backlog.bytes),
    )


def _max_per_second(endpoint: Endpoint) -> float | None:
    if endpoint.rate is None:
        return None
    return (endpoint.batch.max if endpoint.batch else 1) / endpoint.rate.interval


def _worker(row: WorkerRow, lease: float) -> WorkerStatus:
    lost = row.beat_left <= 0
    last_beat = None if lost else max(0.0, lease - row.beat_left)
    return WorkerStatus(row.worker, row.url, row.existing, row.sessions, row.capacity, lost, last_beat, row.beat_left)


def _sessions(seen: Summary | None) -> SessionCounts:
    if seen is None:
        return SessionCounts(None, None, {}, None)
    return SessionCounts(seen.total, seen.connected, seen.states, seen.unowned)


def _traffic(policies: Policies) -> Traffic:
    samples = list(_samples())
    requests = _sums(samples, _REQUESTS, "status")
    return Traffic(
        requests=RequestCounts(sum(requests.values()), _classes(requests)),
        events=dict(_sums(samples, _EVENTS, "event").most_common()),
        refused=dict(_sums(samples, _REFUSED, "reason").most_common()),
        limits={limit.id: _decisions(samples, limit.id) for limit in policies.limits},
    )


def _decisions(samples: list[Sample], limit: str) -> LimitDecisions:
    mine = [sample for sample in samples if sample.name == _DECISIONS and sample.labels["limit"] == limit]
    return LimitDecisions(**_sums(mine, _DECISIONS, "decision"))


def _samples() -> Iterator[Sample]:
    for family in metrics.registry().collect():
        yield from family.samples


def _sums(samples: list[Sample], name: str, label: str) -> Counter[str]:
    sums: Counter[str] = Counter()
    for sample in samples:
        if sample.name == name:
            sums[sample.labels[label]] += int(sample.value)
    return sums


def _classes(statuses: Counter[str]) -> dict[str, int]:
    classes: Counter[str] = Counter()
    for status, requests in statuses.items():
        classes[f"{status[:1]}xx"] += requests
    return dict(sorted(classes.items()))
