"""Rings of steps in a real store: what is added once, where, and that they never grow beyond their bounds."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis

from sluice.history.charted import Series
from sluice.history.rings import MAX_SERIES, OTHERS, RINGS, Range, Steps, Value, note, noted, read
from sluice.store.client import Store, clock_key

pytestmark = pytest.mark.anyio

HOUR = 3600.0
SENT = Series("deliveries", "laravel", "delivered")
DEAD = Series("dead", "laravel", "dead")
STATE = Series("sessions", "", "connected")


async def add(store: Store, process: str, number: int, *values: Value, age: float = 0.0) -> None:
    await store.run_all([note(process, number, age, values)])


def sent(n: float, series: Series = SENT) -> Value:
    return Value("sum", series, n)


def at(redis: Redis, moment: float, process: str, number: int, *values: Value) -> None:
    """Adds it at this moment (unix seconds) of the store's clock."""
    call = note(process, number, 0.0, values)
    text = call.script.text.replace("call('TIME')", f"{{{int(moment)}, {int(moment % 1 * 1e6)}}}")
    assert text != call.script.text
    redis.eval(text, len(call.keys) + 1, *call.keys, clock_key(call.keys[0]), *call.args)  # type: ignore[arg-type]


def seen(steps: Steps, series: Series) -> list[float]:
    return [value for value in steps.series.get(series, ()) if value is not None]


async def total(store: Store, name: Range, series: Series = SENT) -> float:
    return sum(seen(await read(store, name), series))


async def test_what_processes_count_is_added_up_in_each_ring(store: Store) -> None:
    await add(store, "a", 1, sent(3))
    await add(store, "b", 1, sent(4))
    await add(store, "a", 2, sent(5))
    assert [await total(store, name) for name in ("day", "14d")] == [12, 12]


async def test_a_part_that_comes_again_is_not_added_again(store: Store) -> None:
    for _ in range(3):
        await add(store, "a", 1, sent(3))
        await add(store, "a", 2, sent(4))
    await add(store, "a", 1, sent(3))
    assert await total(store, "day") == 7


async def test_a_process_that_begins_again_at_nought_takes_nothing_away(store: Store) -> None:
    await add(store, "host:1:a", 7, sent(1000))
    await add(store, "host:1:b", 1, sent(1))
    assert await total(store, "day") == 1001


async def test_of_levels_the_highest_or_the_last_of_a_step_stays(redis: Redis, store: Store) -> None:
    begun = (time.time() // HOUR + 2) * HOUR
    for number, (dead, connected) in enumerate([(2, 5), (9, 7), (4, 6)], 1):
        at(redis, begun + number, "a", number, Value("max", DEAD, dead), Value("last", STATE, connected))
    steps = await read(store, "day")
    assert (seen(steps, DEAD), seen(steps, STATE)) == ([9], [6])


async def test_what_was_counted_before_the_store_was_back_stands_where_it_happened(store: Store) -> None:
    await add(store, "a", 1, sent(1), age=1800.0)
    await add(store, "a", 2, sent(2), age=900.0)
    steps = await read(store, "hour")
    places = {value: i for i, value in enumerate(steps.series[SENT]) if value is not None}
    assert set(places) == {1, 2}
    assert places[2] - places[1] in (89, 90, 91)
    assert len(steps.attended) == 360
    assert steps.attended.count(True) == 2


async def test_nobody_there_and_nothing_counted_are_told_apart(store: Store) -> None:
    await add(store, "a", 1, sent(1), age=1800.0)
    await add(store, "a", 2, age=900.0)
    steps = await read(store, "hour")
    assert len(seen(steps, SENT)) == 1
    assert steps.attended.count(True) == 2


async def test_of_the_hour_only_steps_that_are_over_are_shown(redis: Redis, store: Store) -> None:
    begun = (time.time() // HOUR + 2) * HOUR
    at(redis, begun + 5, "a", 1, sent(1))
    hour, day = await read(store, "hour"), await read(store, "day")
    assert (seen(hour, SENT), hour.last, hour.step) == ([], 10, 10)
    assert (day.series[SENT][-1], day.step) == (1, 300)
    assert 5 <= day.last < 60
    at(redis, begun + 10, "a", 2)
    assert (await read(store, "hour")).series[SENT][-1] == 1


@pytest.mark.parametrize("name", RINGS)
async def test_what_is_older_than_the_ring_is_gone(redis: Redis, store: Store, name: Range) -> None:
    ring, begun = RINGS[name], (time.time() // HOUR + 2) * HOUR
    at(redis, begun, "a", 1, sent(1))
    at(redis, begun + ring.step, "a", 2, sent(2))
    at(redis, begun + (ring.length - 1) * ring.step, "a", 3)
    assert seen(await read(store, name), SENT) == [1, 2]
    at(redis, begun + ring.length * ring.step, "a", 4)
    assert seen(await read(store, name), SENT) == [2]
    at(redis, begun + 3 * ring.length * ring.step, "a", 5, sent(7))
    assert [len(await read_all(redis, one.key)) <= one.length for one in RINGS.values()] == [True] * 3
    assert seen(await read(store, name), SENT) == ([] if name == "hour" else [7])


async def read_all(redis: Redis, key: str) -> dict[Any, Any]:
    return dict(redis.hgetall(key))  # type: ignore[arg-type]


async def test_a_clock_that_is_set_back_takes_nothing_away_and_adds_nothing_to_what_was(
    redis: Redis, store: Store
) -> None:
    begun = (time.time() // HOUR + 5) * HOUR
    at(redis, begun, "a", 1, sent(1))
    at(redis, begun - 4 * HOUR, "a", 2, sent(2))
    at(redis, begun - 4 * HOUR + 20, "a", 3, sent(4))
    steps = await read(store, "14d")
    assert sum(seen(steps, SENT)) == 7
    assert steps.series[SENT][-1] == 7, "its time went on from where it was"


def many(chart: str, n: int, first: int = 0) -> Sequence[Value]:
    return [sent(1, Series(chart, f"endpoint-{i}", what)) for i in range(first, first + n) for what in ("ok", "bad")]


async def test_beyond_so_many_series_of_a_chart_the_others_are_one_and_nothing_is_lost(
    redis: Redis, store: Store
) -> None:
    for number in range(1, 6):
        await add(store, "a", number, *many("deliveries", 200, first=200 * (number - 1)))
    await add(store, "a", 6, *many("limits", 3))
    steps = await read(store, "day")
    deliveries = {one: sum(seen(steps, one)) for one in steps.series if one.chart == "deliveries"}
    assert len(deliveries) == MAX_SERIES + 2
    assert sum(deliveries.values()) == 2000
    assert deliveries[Series("deliveries", OTHERS, "ok")] == 1000 - MAX_SERIES / 2
    assert len([one for one in steps.series if one.chart == "limits"]) == 6
    rows = [row for ring in RINGS.values() for row in (await read_all(redis, ring.key)).values()]
    assert max(map(len, rows)) == 8 * (1 + MAX_SERIES + 2 + 6)


async def test_of_the_others_levels_are_added_up_and_of_the_worst_the_worst_counts(store: Store) -> None:
    await add(store, "a", 1, *many("sessions", MAX_SERIES // 2), *many("dead", MAX_SERIES // 2))
    values = [Value("last", Series("sessions", f"more-{i}", "ok"), 10 + i) for i in range(3)]
    values += [Value("max", Series("dead", f"more-{i}", "ok"), 10 + i) for i in range(3)]
    await add(store, "a", 2, *values)
    steps = await read(store, "day")
    assert seen(steps, Series("sessions", OTHERS, "ok")) == [33]
    assert seen(steps, Series("dead", OTHERS, "ok")) == [12]


async def test_a_series_of_which_nothing_is_left_makes_room(redis: Redis, store: Store) -> None:
    begun, fortnight = (time.time() // HOUR + 2) * HOUR, 336 * HOUR
    at(redis, begun, "a", 1, *many("deliveries", MAX_SERIES // 2))
    at(redis, begun + fortnight, "a", 2, *many("deliveries", 1, first=900))
    names = {one.of for one in (await read(store, "14d")).series}
    assert names == {OTHERS}, "the oldest has a step that is shown still"
    at(redis, begun + fortnight + HOUR, "a", 3, *many("deliveries", 1, first=901))
    steps = await read(store, "14d")
    assert {one.of for one in steps.series} == {OTHERS, "endpoint-901"}
    assert seen(steps, Series("deliveries", "endpoint-901", "ok")) == [1]
    assert len(await read_all(redis, "sl:{history}:series")) == MAX_SERIES + 2


async def test_one_of_those_that_can_look_is_asked_to_in_each_step(redis: Redis, store: Store) -> None:
    async def asked(process: str, number: int, *, can_look: bool = True) -> bool:
        (answer,) = await store.run_all([note(process, number, 0.0, (), can_look=can_look)])
        assert 0 < noted(answer).next_step <= 10
        return noted(answer).looks

    redis.set(clock_key("sl:{history}:hour"), int((time.time() // 10 + 1) * 10 * 1000))  # a step has just begun
    assert not await asked("relay", 1, can_look=False)
    assert [await asked(process, 1) for process in ("a", "b", "c")] == [True, False, False]
    assert not await asked("a", 1), "a part that comes again"


async def test_processes_that_are_gone_are_forgotten(redis: Redis, store: Store) -> None:
    begun = (time.time() // HOUR + 2) * HOUR
    for i in range(5):
        at(redis, begun + i, f"gone-{i}", 1)
    at(redis, begun + HOUR + 60, "here", 1)
    assert set(await read_all(redis, "sl:{history}:writers")) == {b"here"}


async def test_numbers_stay_exact_and_none_is_made_up(store: Store) -> None:
    await add(store, "a", 1, sent(2**53 - 1), Value("max", Series("oldest_seconds", "x", "bulk"), 0.1 + 0.2))
    steps = await read(store, "day")
    assert seen(steps, SENT) == [2**53 - 1]
    assert seen(steps, Series("oldest_seconds", "x", "bulk")) == [0.1 + 0.2]
    assert not any(math.isnan(value) for values in steps.series.values() for value in values if value is not None)


@pytest.fixture
def redis(store_url: str) -> Any:
    with Redis.from_url(store_url) as client:
        yield client
