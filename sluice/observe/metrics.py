"""The page of `/_sluice/metrics`. Each room declares its own metrics; how they are counted is in `tallies`.

With `PROMETHEUS_MULTIPROC_DIR` set (by `sluice up`) every process writes its numbers to files there, and the gateway's
page shows the sum of all processes; what a process counted stays counted when it dies. Without it the page shows the
gateway's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import REGISTRY

from sluice.observe.recent import SUFFIX, Labels, Recent, Totals
from sluice.observe.tallies import Counts, Histograms, flush

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Bounds for what a person waits for."""
CIRCUIT_VALUES = {"closed": 0.0, "half-open": 0.5, "open": 1.0}


def counts(name: str, description: str, labels: Sequence[str]) -> Counts:
    return Counts(Counter(name, description, labels))


def recent(counts: Counts, name: str, labels: Sequence[str], fold: Callable[[Labels], Labels] | None = None) -> Recent:
    """Shows what of it was counted in the last minute. `name`: the counter's, which ends in `_total`."""
    description = f"Of {name}: those of the last minute. For alerts, take the rate of the counter."
    name = name.removesuffix("_total") + SUFFIX
    gauge = Gauge(name, description, labels, multiprocess_mode="livesum")

    def totals() -> Totals:
        return counts.totals

    return Recent(totals, gauge) if fold is None else Recent(totals, gauge, fold)


def recent_seconds(histograms: Histograms, name: str, labels: Sequence[str]) -> None:
    """Shows how many were observed in the last minute, and how many seconds they took together."""
    shown = f"Of {name}: those of the last minute. For alerts, take the rate of the histogram."
    number = Gauge(f"{name.removesuffix('_seconds')}{SUFFIX}", shown, labels, multiprocess_mode="livesum")
    seconds = Gauge(f"{name}{SUFFIX}", f"{shown} Together.", labels, multiprocess_mode="livesum")
    Recent(lambda: {one: known.number for one, known in histograms.observed.items()}, number)
    Recent(lambda: {one: known.total for one, known in histograms.observed.items()}, seconds)


def histograms(name: str, description: str, labels: Sequence[str], bounds: Sequence[float]) -> Histograms:
    """`bounds` in seconds."""
    return Histograms(Histogram(name, description, labels, buckets=bounds), bounds)


def registry() -> CollectorRegistry:
    """What the page shows: all processes of this `sluice up`, to their last second, or this one alone."""
    flush()
    if not os.environ.get(_DIRECTORY):
        return REGISTRY
    every_process = CollectorRegistry()
    MultiProcessCollector(every_process)  # type: ignore[no-untyped-call]
    return every_process


def prepare(folder: Path) -> dict[str, str]:
    """Empties the folder and returns the environment by which child processes count into it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()
    return {_DIRECTORY: str(folder)}


def process_ended(pid: int, folder: Path) -> None:
    """Takes the gauges of an ended process off the page; its counters stay."""
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
