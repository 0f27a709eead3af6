"""What a gateway brings to the charts beside its counters: how things stand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from gateway.metrics import UPSTREAM_CIRCUITS
from gateway.policies import Policies
from gateway.resources import Resources
from relay.process import open_circuit
from sessions.registry import Summary
from sessions.states import STATES
from sluice.history.charted import Series
from sluice.history.rings import Rule, Value
from sluice.observe.metrics import CIRCUIT_VALUES


def levels(policies: Policies) -> Sequence[Value]:
    """Of this process: the worst of all processes counts."""
    return [
        _value("max", "upstream_circuits", name, "open", UPSTREAM_CIRCUITS[name])
        for name in policies.upstreams
        if name in UPSTREAM_CIRCUITS
    ]


async def look(resources: Resources) -> Sequence[Value]:
    """What only the store knows. Costs as much as there are endpoints and workers. Raises StoreAway or StoreRefused."""
    endpoints = resources.policies.relay.endpoints
    summary, counts, circuits = await asyncio.gather(
        resources.registry.summary(),
        asyncio.gather(*(resources.queues[name].counts() for name in endpoints)),
        asyncio.gather(*(open_circuit(resources.store, endpoint).view() for endpoint in endpoints.values())),
    )
    values = [*_of_sessions(summary)]
    for name, queue, circuit in zip(endpoints, counts, circuits, strict=True):
        values += [
            _value("max", "oldest_seconds", name, lane, round(age, 3)) for lane, age in queue.oldest_by_lane.items()
        ]
        values.append(_value("max", "waiting", name, "waiting", queue.waiting + queue.leased))
        values.append(_value("max", "dead", name, "dead", queue.dead))
        values.append(_value("max", "circuits", name, "open", CIRCUIT_VALUES[circuit.state]))
    return values


def _of_sessions(summary: Summary) -> Iterator[Value]:
    for state in STATES:
        yield _value("last", "sessions", "", state, summary.states.get(state, 0))
    yield _value("last", "sessions", "", "unowned", summary.unowned)
    lost = sum(worker.beat_left <= 0 for worker in summary.workers)
    yield _value("last", "workers", "", "live", len(summary.workers) - lost)
    yield _value("last", "workers", "", "lost", lost)


def _value(rule: Rule, chart: str, of: str, what: str, value: float) -> Value:
    return Value(rule, Series(chart, of, what), value)
