"""What the histograms of times are given: the time that we add, and that of a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice.observe import metrics
from tests.gateway.proxy.test_balancing import gate_to, members, urls
from tests.gateway.running import Gate, Receiver
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = pytest.mark.anyio


def observed(name: str, **labels: str) -> tuple[float, float]:
    """How many, and their sum in seconds."""
    samples = [one for family in metrics.registry().collect() for one in family.samples]

    def of(end: str) -> float:
        return sum(one.value for one in samples if one.name == name + end and labels.items() <= one.labels.items())

    return of("_count"), of("_sum")


async def test_the_time_that_we_add_is_not_that_of_the_upstream(gate: Gate, laravel: Receiver) -> None:
    async def late(call: Call) -> None:
        await call.head()
        await asyncio.sleep(0.3)
        call.say(laravel.response)

    laravel.play = late
    before = observed("sluice_added_seconds")
    assert (await gate.http.get("/page")).status_code == 200
    await until(lambda: observed("sluice_added_seconds")[0] == before[0] + 1, what="its line")
    assert 0 < observed("sluice_added_seconds")[1] - before[1] < 0.3


async def test_to_what_no_upstream_was_asked_for_nothing_is_added(gate: Gate) -> None:
    before = observed("sluice_added_seconds")[0]
    refused = observed("sluice_request_seconds", route="-")[0]
    assert (await gate.http.delete("/nobody")).status_code == 404
    await until(lambda: observed("sluice_request_seconds", route="-")[0] > refused, what="its line")
    assert observed("sluice_added_seconds")[0] == before


async def test_a_failover_is_timed_from_asking_the_member_that_failed(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    async with members(free_port) as (a, b), gate_to(tmp_path, store_url, urls(a, b)) as gate:
        await a.stop()
        before = observed("sluice_upstream_failover_seconds", upstream="laravel")
        answers = [(await gate.http.get("/")).text for _ in range(4)]
        assert answers == ["b"] * 4
        count, seconds = observed("sluice_upstream_failover_seconds", upstream="laravel")
        assert count >= before[0] + 1
        assert 0 < seconds - before[1] < 5
