"""What the edge counts, beside the requests themselves (`sluice.http.server.metrics`)."""

from __future__ import annotations

from prometheus_client import Gauge

from sluice.observe.metrics import CIRCUIT_VALUES, counts

_DECISIONS = counts("sluice_limit_decisions_total", "What a limit decided.", ["limit", "decision"])
_WITHOUT_STORE = counts("sluice_limiter_store_away_total", "Decisions taken while the store was away.", ["limit"])
_UPSTREAM_CIRCUIT = Gauge(
    "sluice_upstream_circuit_open",
    "0 closed, 0.5 half-open, 1 open; the worst of all processes.",
    ["upstream"],
    multiprocess_mode="livemax",
)
_HELD = Gauge(
    "sluice_held_requests",
    "Requests that wait because they cannot be stored or decided now.",
    multiprocess_mode="livesum",
)


def decided(limit: str, decision: str) -> None:
    """`allowed`, `delayed`, `dropped`, `rejected`, or `would_reject` of a limit that only observes."""
    _DECISIONS.add(limit, decision)


def decided_without_store(limit: str) -> None:
    _WITHOUT_STORE.add(limit)


def upstream_circuit(upstream: str, state: str) -> None:
    _UPSTREAM_CIRCUIT.labels(upstream).set(CIRCUIT_VALUES[state])


def held(requests: int) -> None:
    _HELD.set(requests)
