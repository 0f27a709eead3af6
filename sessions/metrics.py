"""What is counted of workers' calls."""

from __future__ import annotations

from sluice.observe.metrics import counts, histograms, recent

_TWINS = counts("sluice_twin_workers_refused_total", "Registrations refused, as another live process has the id.", [])
recent(_TWINS, "sluice_twin_workers_refused_total", [])
_REGISTRATIONS = counts(
    "sluice_registrations_refused_total",
    "Registrations of workers that were refused, as their secret may not say that id or url, or it is an existing "
    "worker's.",
    [],
)
recent(_REGISTRATIONS, "sluice_registrations_refused_total", [])
_RESTARTS = counts(
    "sluice_session_restarts_total",
    "Sessions restarted by sessions.watch, by the kind of fault, and whether their workers did it.",
    ["kind", "outcome"],
)
_FAILOVER_SECONDS = histograms(
    "sluice_session_failover_seconds",
    "For how long nobody had a session that a worker had lost or released, until another was granted it.",
    [],
    (0.05, 0.25, 1, 5, 15, 60, 300, 1800),
)


def session_failed_over(seconds: float) -> None:
    _FAILOVER_SECONDS.observe(seconds)


def session_restart(kind: str, outcome: str) -> None:
    """`outcome`: restarted or failed."""
    _RESTARTS.add(kind, outcome)


def registration_refused() -> None:
    _REGISTRATIONS.add()


def twin_refused() -> None:
    _TWINS.add()
