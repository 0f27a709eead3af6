"""Everything a person wants on one screen, as of one moment."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

from prometheus_client.samples import Sample

from gateway.policies import Policies
from gateway.reload import Resources
from relay import presence
from relay.circuit import CircuitStatus
from relay.policies import Endpoint
from relay.process import open_circuit
from relay.queue.queue import Counts
from sessions.registry import SessionRow, WorkerRow
from sluice.config.live import LivePolicies, as_fields
from sluice.console.messages import messages
from sluice.observe import metrics
from sluice.store.client import StoreAway, StoreRefused

_REQUESTS = "sluice_requests_total"
_EVENTS = "sluice_events_accepted_total"
_REFUSED = "sluice_events_refused_total"
_DECISIONS = "sluice_limit_decisions_total"
_OUTCOMES = ("allowed", "delayed", "dropped", "rejected", "would_reject")
_COUNTED = ("accepted", "delivered", "retried", "replaced", "expired")

T = TypeVar("T")


async def snapshot(parts: Resources) -> dict[str, Any]:
    """JSON-ready. While the store is away, what only it knows is None or empty, and `store` says why.

    `traffic` counts since this deployment started, `endpoints` since the store is in use.
    """
    look = _Look()
    relays, sessions, workers, endpoints, removed, traffic = await asyncio.gather(
        look.at(presence.alive(parts.store)),
        look.at(parts.registry.sessions()),
        look.at(parts.registry.workers()),
        asyncio.gather(*(_endpoint(look, parts, endpoint) for endpoint in parts.policies.relay.endpoints.values())),
        asyncio.gather(*(look.at(queue.counts()) for queue in parts.removed.values())),
        asyncio.to_thread(_traffic, parts.policies),  # reads the files of every process
    )
    seen = {
        "at": time.time(),
        "revision": parts.policies.revision,
        "policies": _policies(parts.live),
        "promise": parts.policies.store.promise,
        "store": {"ok": not look.failures, "why": look.failures[0] if look.failures else None},
        "relays": relays,
        "traffic": traffic,
        "endpoints": dict(zip(parts.policies.relay.endpoints, endpoints, strict=True)),
        "removed": [_removed(name, counts) for name, counts in zip(parts.removed, removed, strict=True) if counts],
        "workers": [_worker(row, parts.registry.lease) for row in workers or ()],
        "sessions": _sessions(sessions),
    }
    return {**seen, "messages": messages(seen)}


def _policies(live: LivePolicies[Policies]) -> dict[str, Any]:
    """Of the file: what is wrong with it, which then is not in force, and what of it waits for a restart."""
    return {
        "source": str(live.current.source),
        "loaded_at": live.loaded_at,
        "problems": [as_fields(problem) for problem in live.problems],
        "needs_restart": list(live.needs_restart),
    }


class _Look:
    """Looks at the store and remembers what could not be seen."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    async def at(self, asked: Awaitable[T]) -> T | None:
        try:
            return await asked
        except (StoreAway, StoreRefused) as failure:
            self.failures.append(str(failure))
            return None


# --- endpoints


async def _endpoint(look: _Look, parts: Resources, endpoint: Endpoint) -> dict[str, Any]:
    counts, circuit = await asyncio.gather(
        look.at(parts.queues[endpoint.name].counts()), look.at(open_circuit(parts.store, endpoint).view())
    )
    backlog = parts.policies.relay.backlog
    return {
        "circuit": _circuit(circuit),
        **_counts(counts),
        "inflow": parts.inflows[endpoint.name].per_second,
        "rate": 1 / endpoint.rate.interval if endpoint.rate else None,
        "max_per_second": _max_per_second(endpoint),
        "backlog": {"events": backlog.events, "bytes": backlog.bytes},
    }


def _max_per_second(endpoint: Endpoint) -> float | None:
    """Events that its rate lets through; None: as many as it takes."""
    if endpoint.rate is None:
        return None
    return (endpoint.batch.max if endpoint.batch else 1) / endpoint.rate.interval


def _removed(name: str, counts: Counts) -> dict[str, Any]:
    """An endpoint that an edit took out of the policies, with what it left in the store."""
    return {"endpoint": name, "waiting": counts.waiting, "leased": counts.leased, "dead": counts.dead}


def _circuit(view: CircuitStatus | None) -> dict[str, Any] | None:
    if view is None:
        return None
    closed = view.state == "closed"
    why = None if closed and not view.held else view.why or None
    return {"state": view.state, "retry_after": 0.0 if closed else view.retry_after, "why": why, "held": view.held}


def _counts(counts: Counts | None) -> dict[str, Any]:
    return {
        **{name: getattr(counts, name, None) for name in ("waiting", "leased", "dead", "bytes")},
        "oldest_due_s": counts.oldest_due if counts else None,
        **{name: getattr(counts, name, None) for name in _COUNTED},
    }


# --- sessions


def _worker(row: WorkerRow, lease: float) -> dict[str, Any]:
    lost = row.beat_left <= 0
    return {
        "worker": row.worker,
        "url": row.url,
        "existing": row.existing,
        "sessions": row.sessions,
        "room": row.capacity,
        "lost": lost,
        "last_beat_s": None if lost else max(0.0, lease - row.beat_left),
        "beat_left_s": row.beat_left,
    }


def _sessions(rows: list[SessionRow] | None) -> dict[str, Any]:
    if rows is None:
        return {"total": None, "connected": None, "states": {}, "unowned": None}
    states = Counter(row.state for row in rows)
    return {
        "total": len(rows),
        # The state of a session that nobody runs is only its last known one.
        "connected": sum(row.state == "connected" and row.worker is not None for row in rows),
        "states": dict(states.most_common()),
        "unowned": sum(row.worker is None for row in rows),
    }


# --- traffic


def _traffic(policies: Policies) -> dict[str, Any]:
    samples = list(_samples())
    requests = _sums(samples, _REQUESTS, "status")
    decisions = {limit.id: dict.fromkeys(_OUTCOMES, 0) for limit in policies.limits}
    for sample in samples:
        if sample.name == _DECISIONS and sample.labels["limit"] in decisions:
            decisions[sample.labels["limit"]][sample.labels["decision"]] += int(sample.value)
    return {
        "requests": {"total": sum(requests.values()), "by_status": _classes(requests)},
        "events": dict(_sums(samples, _EVENTS, "event").most_common()),
        "refused": dict(_sums(samples, _REFUSED, "reason").most_common()),
        "limits": decisions,
    }


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
