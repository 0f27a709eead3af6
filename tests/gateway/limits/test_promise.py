"""What a refusal says is kept: a client that is alone and waits as long as it was told to passes."""

from __future__ import annotations

import asyncio
import itertools
import math
import struct
import time
from collections.abc import Iterator, Sequence
from unittest import mock

import pytest
from hypothesis import given, settings, strategies as st
from redis import Redis

from gateway.limits.applicable import DELAY, OBSERVE, REFUSE, Bucket, Enforcement
from gateway.limits.decide import Decision
from gateway.limits.headers import header_lines
from gateway.limits.limiter import Limiter
from gateway.plan import retry_after
from gateway.policies import BodyCost, Over
from sluice.config import Rate
from sluice.store.client import Store, clock_key
from tests.gateway.making import a_limit

EXAMPLES = itertools.count()
BURSTS, INTERVALS = (3, 5, 8, 2), (100.0, 700.0, 3600.0, 50.0)
OVERS: tuple[Over, ...] = ("reject", "reject", "drop", "reject")
MODES: tuple[Enforcement, ...] = (REFUSE, REFUSE, DELAY)
REQUEST = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(MODES), st.integers(1, 3)),
    min_size=1,
    max_size=4,
    unique_by=lambda it: it[0],
)
"""Which of four buckets it takes from, how each is enforced (the last one only observes), and what it costs."""


@pytest.fixture(scope="module")
def redis(store_address: str) -> Iterator[Redis]:
    with Redis.from_url(store_address) as client:
        yield client


class Clocks:
    """Lets time pass at once, for this process and for the buckets in the store."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._passed = 0.0
        self._monotonic = time.monotonic

    def monotonic(self) -> float:
        return self._monotonic() + self._passed

    def wait(self, seconds: float) -> None:
        self._passed += seconds
        for key in self._redis.scan_iter(self._prefix + "*"):
            level, at = struct.unpack(">d6s", self._redis.get(key))  # type: ignore[misc, arg-type]
            earlier = int.from_bytes(at) - math.ceil(seconds * 1e5)
            self._redis.set(key, struct.pack(">d6s", level, earlier.to_bytes(6)), keepttl=True)


def made(prefix: str, request: Sequence[tuple[int, Enforcement, int]]) -> list[Bucket]:
    """The costs are of a body: what one request costs says nothing of another one."""
    return [
        Bucket(
            a_limit(f"l{i}", rate=Rate(1, INTERVALS[i]), burst=BURSTS[i], over=OVERS[i], cost=BodyCost("/to")),
            f"{prefix}{i}",
            OBSERVE if i == 3 else mode,
            INTERVALS[i],
            BURSTS[i],
            cost,
        )
        for i, mode, cost in request
    ]


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(REQUEST, st.sampled_from([0.0, 0.0, 0.3, 2.0, 150.0])), min_size=5, max_size=25))
def test_whoever_waits_as_told_passes_and_whoever_waits_a_second_less_does_not(
    redis: Redis, store_address: str, requests: list[tuple[list[tuple[int, Enforcement, int]], float]]
) -> None:
    """Any requests on four limits, of which each refusal, whether the store's or a remembered one, is obeyed."""
    prefix = f"sl:{{l}}:promise{next(EXAMPLES)}-"
    clocks = Clocks(redis, prefix)

    async def play() -> None:
        store = Store(store_address, timeout=5.0)
        limiter = Limiter(store)
        try:
            for request, pause in requests:
                clocks.wait(pause)
                buckets = made(prefix, request)
                at = time.perf_counter()
                decision = await limiter.take(buckets)
                if decision.verdict != "pass":
                    await obey(limiter, buckets, decision, at)
        finally:
            await store.close()

    async def obey(limiter: Limiter, buckets: list[Bucket], decision: Decision, at: float) -> None:
        """`at`: when what it obeys was asked. Real time passes, too, while an answer is on its way."""
        for fewer in (1.0, 0.1):
            missing = min(fewer, decision.retry_after)
            clocks.wait(decision.retry_after - missing)
            asked, at = at, time.perf_counter()
            decision = await limiter.take(buckets)
            if decision.verdict == "pass":
                assert time.perf_counter() - asked > missing - 0.001, "before it was due"
                return
            assert decision.retry_after <= fewer + 0.001
        clocks.wait(decision.retry_after)
        assert (await limiter.take(buckets)).verdict == "pass"

    with mock.patch.object(time, "monotonic", clocks.monotonic):
        asyncio.run(play())


@given(st.floats(0.0, 8.0), st.sampled_from([0.001, 0.07, 1.0, 3600.0]), st.integers(1, 8))
def test_the_fields_never_say_less_than_the_time_it_takes_in_whole_seconds(
    missing: float, interval: float, cost: int
) -> None:
    limit = a_limit("send", rate=Rate(1, interval), burst=8)
    bucket, level = Bucket(limit, "send", REFUSE, interval, 8, cost), cost - missing
    wait = missing * interval
    state = header_lines([bucket], [level], ("send",), {"ratelimit"})[1]
    seconds = int(state.rpartition(b"t=")[2])
    assert wait - 1e-5 <= seconds <= max(1.0, wait + 1)
    assert seconds <= int(retry_after(wait)) <= seconds + 1


@pytest.mark.anyio
async def test_while_the_time_of_the_buckets_runs_slower_a_wait_is_as_much_longer(store: Store) -> None:
    """As after a step back of the store's clock: it loses a hundredth until the clock has caught up."""
    one = Bucket(a_limit("slow", rate=Rate(1, 2.0), burst=1), "sl:{l}:slow", REFUSE, 2.0, 1, 1)
    await store.commands(("SET", clock_key(one.key), f"{int(time.time() * 1000)} 60000"))
    limiter = Limiter(store)
    assert (await limiter.take([one])).verdict == "pass"
    for _ in range(3):
        refused = await limiter.take([one])
        assert refused.verdict == "reject"
    await asyncio.sleep(refused.retry_after - 0.02 - 0.3)
    assert (await limiter.take([one])).verdict == "reject"
    refused = await Limiter(store).take([one])
    assert refused.verdict == "reject"
    await asyncio.sleep(refused.retry_after)
    assert (await Limiter(store).take([one])).verdict == "pass"


@pytest.mark.anyio
async def test_a_remembered_wait_is_as_much_longer_too(store: Store) -> None:
    one = Bucket(a_limit("slow", rate=Rate(1, 2000.0), burst=1), "sl:{l}:slow", REFUSE, 2000.0, 1, 1)
    await store.commands(("SET", clock_key(one.key), f"{int(time.time() * 1000)} 60000"))
    limiter = Limiter(store)
    assert (await limiter.take([one])).verdict == "pass"
    remembered, decided = await limiter.take([one]), await Limiter(store).take([one])
    assert remembered.retry_after == pytest.approx(2000 / 0.99, abs=1)
    assert decided.retry_after == pytest.approx(2000 / 0.99, abs=1)
