from __future__ import annotations

from prometheus_client import Counter, Gauge

from sluice.observe.recent import Recent
from sluice.observe.tallies import Counts


def window() -> tuple[Counts, Gauge, Recent]:
    """On names of its own, in no registry."""
    counts = Counts(Counter("test_recent_total", "", ["what"], registry=None))
    gauge = Gauge("test_recent_last_minute", "", ["what"], registry=None)
    return counts, gauge, Recent(lambda: counts.totals, gauge)


def shown(gauge: Gauge) -> dict[str, float]:
    return {sample.labels["what"]: sample.value for family in gauge.collect() for sample in family.samples}


def add(counts: Counts, what: str, times: int) -> None:
    for _ in range(times):
        counts.add(what)
    counts.flush()


def test_what_was_counted_in_the_last_minute_is_shown_and_then_forgotten() -> None:
    counts, gauge, recent = window()
    began = recent.started
    add(counts, "a", 3)
    recent.note(began + 2)
    assert shown(gauge) == {"a": 3}
    add(counts, "a", 2)
    add(counts, "b", 1)
    for second in range(4, 62, 2):
        recent.note(began + second)
    assert shown(gauge) == {"a": 5, "b": 1}
    recent.note(began + 62)
    assert shown(gauge) == {"a": 2, "b": 1}
    recent.note(began + 64)
    recent.note(began + 66)
    assert shown(gauge) == {"a": 0, "b": 0}


def test_after_a_long_time_without_anything_only_what_is_new_counts() -> None:
    counts, gauge, recent = window()
    began = recent.started
    recent.note(began + 1000)
    add(counts, "a", 4)
    recent.note(began + 5000)
    assert shown(gauge) == {"a": 4}
    recent.note(began + 9000)
    assert shown(gauge) == {"a": 0}


def test_a_window_stays_small_however_often_it_is_looked_at() -> None:
    counts, _, recent = window()
    add(counts, "a", 1)
    for i in range(10_000):
        recent.note(recent.started + 2 * i)
    assert len(recent) < 40
