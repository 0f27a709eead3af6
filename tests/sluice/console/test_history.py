from __future__ import annotations

import time

import httpx2
import pytest

from gateway.resources import Resources
from sluice.console.actions.history import History, Line, ShowHistory, _quantile, show
from sluice.console.operations import API
from sluice.history.charted import Series
from sluice.history.rings import MAX_SERIES, OTHERS, Value, note
from tests.sluice.console.test_http import BEARER, http

__all__ = ["http"]
pytestmark = pytest.mark.anyio


async def add(parts: Resources, number: int, *values: Value, age: float = 0.0) -> None:
    await parts.store.run_all([note("a", number, age, values)])


def counted(chart: str, of: str, what: str, n: float) -> Value:
    return Value("sum", Series(chart, of, what), n)


def only(lines: tuple[Line, ...]) -> Line:
    (line,) = lines
    return line


async def day(parts: Resources) -> History:
    return await show(parts, ShowHistory("day"))


async def test_before_anything_was_counted_each_chart_is_empty(parts: Resources) -> None:
    found = await show(parts, ShowHistory())
    assert (found.range, found.step_s, found.last_s, found.requests, found.request_seconds) == ("hour", 10, 10, (), ())
    assert 3590 < time.time() - found.began.timestamp() < 3625


async def test_a_step_in_which_nothing_was_counted_is_nought_and_one_without_anybody_is_null(parts: Resources) -> None:
    await add(parts, 1, counted("requests", "", "2xx", 7), age=1200)
    await add(parts, 2, age=600)
    line = only((await day(parts)).requests)
    assert (line.of, line.what, line.others, len(line.values)) == (None, "2xx", False, 288)
    assert [value for value in line.values if value is not None] == [7, 0]


async def test_each_chart_has_its_lines_in_order(parts: Resources) -> None:
    await add(
        parts,
        1,
        counted("deliveries", "laravel", "failed", 2),
        counted("deliveries", "audit", "delivered", 1),
        counted("deliveries", "laravel", "delivered", 3),
        Value("max", Series("oldest_seconds", "laravel", "bulk"), 1.235),
        Value("last", Series("sessions", "", "connected"), 12),
    )
    found = await day(parts)
    assert [(line.of, line.what, line.values[-1]) for line in found.deliveries] == [
        ("audit", "delivered", 1),
        ("laravel", "delivered", 3),
        ("laravel", "failed", 2),
    ]
    assert only(found.oldest_seconds).values[-1] == 1.235
    assert only(found.sessions) == Line(None, "connected", (*[None] * 287, 12))


async def test_those_that_found_no_place_are_told_apart(parts: Resources) -> None:
    await add(parts, 1, *(counted("limits", f"limit-{i}", "allowed", 1) for i in range(MAX_SERIES + 5)))
    lines = (await day(parts)).limits
    assert len(lines) == MAX_SERIES + 1
    assert [(line.of, line.values[-1]) for line in lines if line.others] == [(None, 5)]
    assert OTHERS not in {line.of for line in lines}


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([10, 0, 0], 0.5, 0.05),
        ([0, 10, 0], 0.5, 0.55),
        ([5, 4, 1], 0.5, 0.1),
        ([5, 4, 1], 0.99, 1.0),
        ([0, 0, 3], 0.5, 1.0),
        ([None, 1, None], 0.99, 0.991),
        ([0, 0, 0], 0.5, None),
        ([None, None, None], 0.5, None),
    ],
)
def test_a_quantile_lies_where_prometheus_would_put_it(
    counts: list[float | None], share: float, expected: float | None
) -> None:
    assert _quantile([0.1, 1.0, float("inf")], counts, share) == (expected and pytest.approx(expected))


async def test_times_are_given_as_quantiles_of_each_step(parts: Resources) -> None:
    values = [counted("request_seconds", "", bound, n) for bound, n in (("0.01", 98), ("0.1", 1), ("inf", 1))]
    await add(parts, 1, *values)
    found = await day(parts)
    assert {line.what: line.values[-1] for line in found.request_seconds} == {
        "p50": pytest.approx(0.0051, abs=0.0001),
        "p99": 0.1,
    }
    assert found.delivery_seconds == ()


async def test_what_is_asked_for_is_checked(http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{API}/history?range=week", headers=BEARER)
    assert (answer.status_code, answer.json()["detail"]) == (400, 'range: "week" is not "hour", "day" or "14d"')
    assert (await http.get(f"{API}/history")).status_code == 401


async def test_it_costs_little_also_where_every_chart_is_full(parts: Resources) -> None:
    """As much as there are series and steps, whatever sessions and events there are."""
    charts = ("upstreams", "limits", "events", "deliveries", "waiting", "oldest_seconds", "dead", "circuits")
    values = [counted(chart, f"e{i}", "x", 1) for chart in charts for i in range(MAX_SERIES)]
    for step in range(360):
        await add(parts, step + 1, *values[: len(values) if step < 2 else 8], age=step * 10.0)
    began = time.perf_counter()
    found = await show(parts, ShowHistory("hour"))
    took = time.perf_counter() - began
    assert sum(len(getattr(found, chart)) for chart in charts) == 8 * MAX_SERIES
    assert took < 1.0
