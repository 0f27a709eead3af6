from __future__ import annotations

import inspect
import re
import time
from pathlib import Path
from typing import Any

import pytest
from limits import parse
from limits.aio.strategies import RateLimiter

from gateway.limits.strategy import TokenBuckets
from sluice.store.client import Store

pytestmark = pytest.mark.anyio

HOURLY = parse("3/hour")


@pytest.fixture
def buckets(store: Store) -> TokenBuckets:
    return TokenBuckets(store)


def test_it_has_the_shape_of_the_librarys_own() -> None:
    for name in ("hit", "test", "get_window_stats", "clear"):
        theirs, ours = (inspect.signature(getattr(of, name)) for of in (RateLimiter, TokenBuckets))
        assert [(it.name, it.kind, it.default) for it in ours.parameters.values()] == [
            (it.name, it.kind, it.default) for it in theirs.parameters.values()
        ]


async def test_the_amount_passes_and_no_more(buckets: TokenBuckets) -> None:
    assert [await buckets.hit(HOURLY, "send", "s1") for _ in range(4)] == [True, True, True, False]
    assert await buckets.hit(HOURLY, "send", "s2")


async def test_a_cost_is_taken_whole_or_not_at_all(buckets: TokenBuckets) -> None:
    assert await buckets.hit(HOURLY, "send", cost=2)
    assert not await buckets.hit(HOURLY, "send", cost=2)
    assert await buckets.hit(HOURLY, "send")


async def test_testing_takes_nothing(buckets: TokenBuckets) -> None:
    assert [await buckets.test(HOURLY, "send", cost=3) for _ in range(5)] == [True] * 5
    assert not await buckets.test(HOURLY, "send", cost=4)
    await buckets.hit(HOURLY, "send")
    assert not await buckets.test(HOURLY, "send", cost=3)
    assert await buckets.test(HOURLY, "send", cost=2)


async def test_the_stats_tell_what_is_left_and_when_it_is_full(buckets: TokenBuckets) -> None:
    assert (await buckets.get_window_stats(HOURLY, "send")).remaining == 3
    await buckets.hit(HOURLY, "send", cost=3)
    stats = await buckets.get_window_stats(HOURLY, "send")
    assert stats.remaining == 0
    assert stats.reset_time == pytest.approx(time.time() + 3600, abs=5)


async def test_a_cleared_bucket_is_full(buckets: TokenBuckets) -> None:
    await buckets.hit(HOURLY, "send", cost=3)
    await buckets.clear(HOURLY, "send")
    assert await buckets.test(HOURLY, "send", cost=3)


async def test_an_edited_limit_keeps_its_level(buckets: TokenBuckets) -> None:
    await buckets.hit(HOURLY, "send", cost=2)
    assert (await buckets.get_window_stats(parse("100/hour"), "send")).remaining == 1


async def test_the_example_of_the_documentation_works(store_url: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "token-buckets.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert [await names["sent"](store_url, session) for session in ("s1", "s1", "s2")] == [5, 0, 5]
