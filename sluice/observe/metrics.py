"""The numbers of `/_sluice/metrics`, all named here.

With `PROMETHEUS_MULTIPROC_DIR` set (by `sluice up`) every process writes its numbers to files there, and the gateway's
page shows the sum of all processes; what a process counted stays counted when it dies. Without it the page shows the
gateway's own. How they are counted: `sluice.observe.tallies`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import REGISTRY

from sluice.observe.tallies import Counts, Histograms, flush

_text = {status: str(status) for status in range(1000)}.__getitem__

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15, 60, 300, 1800, 7200)


def _spreads(name: str, what: str, labels: Sequence[str], bounds: Sequence[float]) -> Histograms:
    return Histograms(Histogram(name, what, labels, buckets=bounds), bounds)


_REQUESTS = Counts(Counter("sluice_requests_total", "Requests answered by the gateway.", ["route", "status"]))
_REQUEST_SECONDS = _spreads("sluice_request_seconds", "From request to answer.", ["route"], _SECONDS)
_DECISIONS = Counts(Counter("sluice_limit_decisions_total", "What a limit decided.", ["limit", "decision"]))
_LIMITER_AWAY = Counts(
    Counter("sluice_limiter_store_away_total", "Decisions taken while the store was away.", ["limit"])
)
_ACCEPTED = Counts(Counter("sluice_events_accepted_total", "Events stored for an endpoint.", ["endpoint", "event"]))
_REFUSED = Counts(Counter("sluice_events_refused_total", "Events not stored.", ["endpoint", "reason"]))
_ATTEMPTS = Counts(Counter("sluice_attempts_total", "Attempts to deliver.", ["endpoint", "outcome"]))
_ATTEMPT_SECONDS = _spreads("sluice_attempt_seconds", "One attempt.", ["endpoint"], _SECONDS)
_DELIVERY_SECONDS = _spreads("sluice_delivery_seconds", "From accept to delivery.", ["endpoint"], _WAITS)
_CIRCUIT = Gauge(
    "sluice_circuit_open", "0 closed, 0.5 half-open, 1 open.", ["endpoint"], multiprocess_mode="livemostrecent"
)
_UPSTREAM_CIRCUIT = Gauge(
    "sluice_upstream_circuit_open",
    "0 closed, 0.5 half-open, 1 open; the worst of all processes.",
    ["upstream"],
    multiprocess_mode="livemax",
)
_QUEUE = Gauge(
    "sluice_queue_events", "Events in the queue of an endpoint.", ["endpoint", "place"], multiprocess_mode="mostrecent"
)
_SESSIONS = Gauge("sluice_sessions", "Sessions by state.", ["state"], multiprocess_mode="mostrecent")
_POLICIES_LOADED = Gauge(
    "sluice_policies_loaded_timestamp_seconds",
    "When the policies in force were loaded; the oldest of all processes.",
    multiprocess_mode="livemin",
)
_POLICIES_WRONG = Gauge(
    "sluice_policies_wrong",
    "1 while the policies file is wrong and older policies stay in force; in any process.",
    multiprocess_mode="livemax",
)
_POLICIES_REFUSED = Counter("sluice_policies_refused_total", "Wrong edits of the policies file; every process counts.")

_CIRCUIT_VALUES = {"closed": 0.0, "half-open": 0.5, "open": 1.0}
_EVENT_NAMES: set[str] = set()
_MAX_EVENT_NAMES = 200


def request(route: str, status: int, seconds: float) -> None:
    """One answered request. `route` is the pattern from the policies, never the path: few values."""
    _REQUESTS.add(route, _text(status))
    _REQUEST_SECONDS.observe(seconds, route)


def decided(limit: str, decision: str) -> None:
    """`allowed`, `delayed`, `dropped`, `rejected`, or `would_reject` of a limit that only observes."""
    _DECISIONS.add(limit, decision)


def decided_without_store(limit: str) -> None:
    _LIMITER_AWAY.add(limit)


def accepted(endpoint: str, event: str) -> None:
    """Event types come from requests: after the first 200 of them the rest are counted as `other`."""
    if event not in _EVENT_NAMES:
        if len(_EVENT_NAMES) >= _MAX_EVENT_NAMES:
            event = "other"
        else:
            _EVENT_NAMES.add(event)
    _ACCEPTED.add(endpoint, event)


def refused(endpoint: str, reason: str) -> None:
    _REFUSED.add(endpoint, reason)


def attempted(endpoint: str, outcome: str, seconds: float, since_accepted: float) -> None:
    _ATTEMPTS.add(endpoint, outcome)
    _ATTEMPT_SECONDS.observe(seconds, endpoint)
    if outcome == "delivered":
        _DELIVERY_SECONDS.observe(since_accepted, endpoint)


def circuit_state(endpoint: str, state: str) -> None:
    _CIRCUIT.labels(endpoint).set(_CIRCUIT_VALUES[state])


def upstream_circuit(upstream: str, state: str) -> None:
    _UPSTREAM_CIRCUIT.labels(upstream).set(_CIRCUIT_VALUES[state])


def queue_holds(endpoint: str, place: str, events: int) -> None:
    _QUEUE.labels(endpoint, place).set(events)


def sessions_are(state: str, sessions: int) -> None:
    _SESSIONS.labels(state).set(sessions)


def policies_loaded(at: float) -> None:
    """`at`: seconds since the epoch."""
    _POLICIES_LOADED.set(at)
    _POLICIES_WRONG.set(0)


def policies_refused() -> None:
    _POLICIES_REFUSED.inc()
    _POLICIES_WRONG.set(1)


def registry() -> CollectorRegistry:
    """What the page shows: all processes of this `sluice up`, to their last second, or this one alone."""
    flush()
    if not os.environ.get(_DIRECTORY):
        return REGISTRY
    every_process = CollectorRegistry()
    MultiProcessCollector(every_process)  # type: ignore[no-untyped-call]
    return every_process


def page() -> bytes:
    """The text format of Prometheus."""
    return generate_latest(registry())


def prepare(folder: Path) -> dict[str, str]:
    """Empties the folder and returns the environment by which child processes count into it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()
    return {_DIRECTORY: str(folder)}


def process_ended(pid: int, folder: Path) -> None:
    """Takes the gauges of an ended process off the page; its counters stay."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
