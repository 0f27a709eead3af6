"""What is counted of workers' calls."""

from __future__ import annotations

from sluice.observe.metrics import counts, recent

_TWINS = counts("sluice_twin_workers_refused_total", "Registrations refused, as another live process has the id.", [])
recent(_TWINS, "sluice_twin_workers_refused_total", [])


def twin_refused() -> None:
    _TWINS.add()
