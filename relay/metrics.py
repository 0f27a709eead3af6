"""What the relay counts, on its way in and on its way out."""

from __future__ import annotations

from prometheus_client import Counter

from sluice.history.charted import chart, chart_seconds
from sluice.observe.metrics import SECONDS, counts, histograms, recent, recent_seconds

_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 15, 60, 300, 1800, 7200)
_ACCEPTED = counts("sluice_events_accepted_total", "Events stored for an endpoint.", ["endpoint", "event"])
_REFUSED = counts("sluice_events_refused_total", "Events not stored.", ["endpoint", "reason"])
recent(_REFUSED, "sluice_events_refused_total", ["endpoint", "reason"])
_LEFT_OUT = counts(
    "sluice_events_left_out_total", "Events that an endpoint did not get, as its backlog was full.", ["endpoint"]
)
_DEAD_DROPPED = Counter(
    "sluice_dead_letters_dropped_total",
    "Dead letters dropped: for their age, or at the cap.",
    ["endpoint", "reason"],
)
_BODIES_DROPPED = Counter(
    "sluice_kept_bodies_dropped_total",
    "Bodies of delivered events dropped before their time, as they had too many bytes.",
    ["endpoint"],
)
_ATTEMPTS = counts("sluice_attempts_total", "Attempts to deliver.", ["endpoint", "outcome"])
_ATTEMPT_SECONDS = histograms("sluice_attempt_seconds", "One attempt.", ["endpoint"], SECONDS)
_DELIVERY_SECONDS = histograms("sluice_delivery_seconds", "From accept to delivery.", ["endpoint"], _WAITS)
_DELIVERY_ATTEMPTS = histograms(
    "sluice_delivery_attempts", "Attempts that a delivered event took.", ["endpoint"], (1, 2, 3, 5, 10, 20, 50)
)
_HANDLED_SECONDS = histograms(
    "sluice_handled_seconds",
    "One attempt whose receiver says how it handled the event: inline or queued.",
    ["endpoint", "handled"],
    SECONDS,
)
recent_seconds(_HANDLED_SECONDS, "sluice_handled_seconds", ["endpoint", "handled"])
_OPENED = counts("sluice_circuit_opened_total", "Circuits that opened, by why.", ["endpoint", "cause"])
chart("events", _ACCEPTED, lambda labels: (labels[0], "accepted"))
chart("events", _REFUSED, lambda labels: (labels[0], "refused"))
chart("deliveries", _ATTEMPTS, lambda labels: (labels[0], labels[1]))
chart_seconds("delivery_seconds", _DELIVERY_SECONDS)
_EVENT_NAMES: set[str] = set()
_MAX_EVENT_NAMES = 200


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


def left_out(endpoint: str) -> None:
    _LEFT_OUT.add(endpoint)


def dead_letters_dropped(endpoint: str, reason: str, letters: int) -> None:
    """`reason`: age or cap."""
    _DEAD_DROPPED.labels(endpoint, reason).inc(letters)


def bodies_dropped(endpoint: str, bodies: int) -> None:
    """At the cap."""
    _BODIES_DROPPED.labels(endpoint).inc(bodies)


def attempted(
    endpoint: str, outcome: str, seconds: float, since_accepted: float, attempt: int, handled: str = ""
) -> None:
    """`attempt`: which one it was, from 1 on. `handled`: see `relay.deliver.outcome.Delivered`."""
    _ATTEMPTS.add(endpoint, outcome)
    _ATTEMPT_SECONDS.observe(seconds, endpoint)
    if outcome == "delivered":
        _DELIVERY_SECONDS.observe(since_accepted, endpoint)
        _DELIVERY_ATTEMPTS.observe(attempt, endpoint)
    if handled:
        _HANDLED_SECONDS.observe(seconds, endpoint, handled)


def circuit_opened(endpoint: str, cause: str) -> None:
    """`cause`: see `relay.circuit.Cause`."""
    _OPENED.add(endpoint, cause)
