"""Recorders of several processes on a real store, while it is there, away, and back."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client import Counter, Histogram

from sluice.history import charted
from sluice.history.charted import Series
from sluice.history.recorder import Recorder
from sluice.history.rings import Range, Value, read
from sluice.observe.tallies import Counts, Histograms
from sluice.process.loops import Stop
from sluice.store import embedded
from sluice.store.client import Store, StoreAway, StoreRefused
from tests.waiting import until

pytestmark = pytest.mark.anyio

ASKED = Series("asked", "laravel", "ok")


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """All that is charted in this test."""
    counts = Counts(Counter("test_history_total", "", ["of", "what"], registry=None))
    monkeypatch.setattr(charted, "_counts", [])
    monkeypatch.setattr(charted, "_histograms", [])
    charted.chart("asked", counts, lambda labels: None if labels[1] == "secret" else (labels[0], labels[1]))
    return counts


def count(counts: Counts, n: int, what: str = "ok") -> None:
    for _ in range(n):
        counts.add("laravel", what)


async def total(store: Store, series: Series = ASKED, name: Range = "day") -> float:
    return sum(value for value in (await read(store, name)).series.get(series, ()) if value)


async def test_what_was_counted_before_it_began_is_not_added(store: Store, counts: Counts) -> None:
    count(counts, 5)
    recorder = Recorder(store, "a")
    count(counts, 2)
    count(counts, 3, "secret")
    assert 0 < await recorder.run_once() <= 10
    assert await total(store) == 2
    await recorder.run_once()
    assert await total(store) == 2
    assert {one.what for one in (await read(store, "day")).series} == {"ok"}


async def test_what_a_histogram_observed_is_charted_by_its_bounds(
    store: Store, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = Histograms(Histogram("test_seconds", "", ["of"], buckets=(0.1, 1), registry=None), (0.1, 1))
    charted.chart_seconds("seconds", seconds)
    recorder = Recorder(store, "a")
    for value in (0.05, 0.1, 0.5, 7):
        seconds.observe(value, "laravel")
    seconds.observe(8, "audit")
    await recorder.run_once()
    found = {what: await total(store, Series("seconds", "", what)) for what in ("0.1", "1", "inf")}
    assert found == {"0.1": 2, "1": 1, "inf": 2}


async def test_while_the_store_is_away_what_is_counted_waits_and_none_of_it_is_lost_or_added_twice(
    short_folder: Path, counts: Counts
) -> None:
    embedded.make_folders(short_folder)
    store = Store(embedded.url(short_folder), timeout=2.0)
    recorder = Recorder(store, "a", lambda: [Value("max", Series("level", "", "x"), 3)])
    for _ in range(25):
        count(counts, 4)
        assert await recorder.run_once() == 10
    process = subprocess.Popen(embedded.command(short_folder, "second"), stdout=subprocess.DEVNULL)
    try:

        async def is_back() -> bool:
            await recorder.run_once()
            return await arrived(store) == 100

        await until(is_back)
        await recorder.run_once()
        assert await total(store) == 100
        assert await total(store, Series("level", "", "x")) == 3
    finally:
        await store.close()
        process.kill()
        process.wait()


async def arrived(store: Store) -> float:
    try:
        return await total(store)
    except (StoreAway, StoreRefused):
        return 0


async def test_beyond_so_many_parts_what_is_counted_waits_in_one(short_folder: Path, counts: Counts) -> None:
    store = Store(f"unix://{short_folder}/nobody.sock", timeout=0.5)
    recorder = Recorder(store, "a")
    for _ in range(100):
        count(counts, 1)
        await recorder.run_once()
    await store.close()
    assert len(recorder._parts) == 60


async def test_one_of_several_looks_in_a_step_and_what_it_sees_is_there(store: Store, counts: Counts) -> None:
    looks = 0

    async def look() -> Sequence[Value]:
        nonlocal looks
        looks += 1
        return [Value("last", Series("workers", "", "live"), 7)]

    recorders = [Recorder(store, name, look=look) for name in ("a", "b", "c")]
    async with asyncio.timeout(60):
        while looks == 0:
            await asyncio.gather(*(recorder.run_once() for recorder in recorders))
    assert looks <= 2, "a step may end meanwhile"
    assert await total(store, Series("workers", "", "live")) == 7


async def test_one_that_stops_brings_what_it_has(store: Store, counts: Counts) -> None:
    stop = Stop()
    running = asyncio.create_task(Recorder(store, "a").run(stop))
    await asyncio.sleep(0)
    count(counts, 9)
    stop.request()
    await running
    assert await total(store) == 9
