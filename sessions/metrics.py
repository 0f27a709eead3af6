"""What is counted of workers' calls."""

from __future__ import annotations

from sluice.observe.metrics import counts, recent

_TWINS = counts("sluice_twin_workers_refused_total", "Registrations refused, as another live process has the id.", [])
recent(_TWINS, "sluice_twin_workers_refused_total", [])
_REGISTRATIONS = counts(
    "sluice_registrations_refused_total",
    "Registrations of workers that were refused, as their secret may not say that id or url, or it is an existing "
    "worker's.",
    [],
)
recent(_REGISTRATIONS, "sluice_registrations_refused_total", [])


def registration_refused() -> None:
    _REGISTRATIONS.add()


def twin_refused() -> None:
    _TWINS.add()
