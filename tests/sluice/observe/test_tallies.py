from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from sluice.observe import metrics, tallies
from sluice.observe.tallies import Counts, Histograms
from tests.waiting import until

BOUNDS = (0.1, 0.5, 1.0)


@pytest.fixture(autouse=True)
def own_tallies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "_tallies", [])
    monkeypatch.setattr(tallies._timer, "armed", False)


def counted(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_what_nobody_would_come_back_to_is_counted_at_once() -> None:
    registry = CollectorRegistry()
    counts = Counts(Counter("seen", "Seen.", ["what"], registry=registry))
    counts.add("a")
    assert counted(registry, "seen_total", what="a") == 1


@pytest.mark.anyio
async def test_in_a_loop_it_is_counted_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "EVERY", 0.02)
    registry = CollectorRegistry()
    counts = Counts(Counter("seen", "Seen.", ["what"], registry=registry))
    for _ in range(3):
        counts.add("a")
    assert counted(registry, "seen_total", what="a") is None
    await until(lambda: counted(registry, "seen_total", what="a") == 3)
    counts.add("a")
    await until(lambda: counted(registry, "seen_total", what="a") == 4)


@pytest.mark.anyio
async def test_a_flush_counts_each_thing_once() -> None:
    registry = CollectorRegistry()
    counts = Counts(Counter("seen", "Seen.", registry=registry))
    counts.add()
    counts.add()
    tallies.flush()
    tallies.flush()
    assert counted(registry, "seen_total") == 2


@pytest.mark.anyio
async def test_many_observations_make_the_page_that_single_ones_make() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    spreads = Histograms(Histogram("took", "Took.", ["route"], buckets=BOUNDS, registry=ours), BOUNDS)
    single = Histogram("took", "Took.", ["route"], buckets=BOUNDS, registry=theirs)
    values = [0.0, 0.1, 0.5, 1.0, 1.5, *(Random(1).uniform(0, 1.2) for _ in range(100))]
    for value in values:
        spreads.observe(value, "/a")
        single.labels("/a").observe(value)
    tallies.flush()

    def page(registry: CollectorRegistry) -> list[bytes]:
        return [
            line for line in generate_latest(registry).splitlines() if b"_sum" not in line and b"created" not in line
        ]

    assert page(ours) == page(theirs)
    assert counted(ours, "took_sum", route="/a") == pytest.approx(counted(theirs, "took_sum", route="/a"))


def test_a_process_that_ends_has_counted_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = metrics.prepare(tmp_path)
    count = """
import asyncio
from sluice.http.server import metrics
async def main() -> None:
    metrics.request("/a", 200, 0.1)
    metrics.request("/a", 404, 0.1)
asyncio.run(main())
"""
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], env=environment, check=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    registry = metrics.registry()
    assert registry.get_sample_value("sluice_requests_total", {"route": "/a", "status": "404"}) == 2
    assert registry.get_sample_value("sluice_request_seconds_count", {"route": "/a"}) == 4
