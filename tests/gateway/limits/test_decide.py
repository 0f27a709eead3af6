"""What buckets decide: in Python, and the same in the store."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings, strategies as st
from redis import Redis

from gateway.limits.applicable import DELAY, OBSERVE, REFUSE, Bucket, Enforcement
from gateway.limits.decide import conclude, decide, outcome
from gateway.limits.take import TAKE, take_arguments
from gateway.policies import Over
from gateway.policies.limits import MAX_LIMITS
from sluice.config import Rate
from sluice.store.client import clock_key
from tests.gateway.making import a_limit


def bucket(
    name: str = "limit",
    mode: Enforcement = REFUSE,
    *,
    cost: int = 1,
    burst: int = 5,
    interval: float = 100.0,
    over: Over = "reject",
) -> Bucket:
    return Bucket(a_limit(name, rate=Rate(1, interval), burst=burst, over=over), name, mode, interval, burst, cost)


# --- what is decided


def test_with_tokens_everywhere_it_passes_and_takes_what_it_costs() -> None:
    decision = decide([bucket("a"), bucket("b", cost=3)], [1.0, 3.5])
    assert (decision.verdict, decision.levels, decision.marks) == ("pass", [0.0, 0.5], "")


def test_a_refusal_takes_from_no_bucket_and_names_all_that_refuse() -> None:
    buckets = [bucket("wide"), bucket("a"), bucket("b", cost=2), bucket("late", DELAY)]
    decision = decide(buckets, [5.0, 0.5, 0.0, -3.0])
    assert (decision.verdict, decision.limit, decision.violated) == ("reject", "b", ("a", "b"))
    assert (decision.retry_after, decision.delay) == (200.0, 0.0)
    assert decision.levels == [5.0, 0.5, 0.0, -3.0]


def test_a_dropping_limit_drops_unless_another_one_rejects() -> None:
    dropping = bucket("typing", over="drop", cost=4)
    assert decide([dropping], [0.0]).verdict == "drop"
    both = decide([dropping, bucket("address")], [0.0, 0.0])
    assert (both.verdict, both.limit, both.retry_after) == ("reject", "address", 400.0)


def test_what_can_wait_is_delayed_by_the_longest_debt() -> None:
    decision = decide([bucket("a", DELAY), bucket("b", DELAY, cost=2)], [-1.0, 1.0])
    assert (decision.verdict, decision.delay, decision.levels) == ("pass", 200.0, [-2.0, -1.0])
    assert decision.limit == "a", "who delays it for longest is named"
    assert decide([bucket("a", DELAY)], [1.0]).limit is None


def test_a_limit_that_observes_refuses_nobody_and_takes_only_what_it_has() -> None:
    observing, empty = bucket("trial", OBSERVE), bucket("empty")
    assert decide([observing], [0.0]).levels == [0.0]
    refused = decide([observing, empty], [2.0, 0.0])
    assert (refused.verdict, refused.levels) == ("reject", [1.0, 0.0])


def test_each_bucket_has_an_outcome_of_its_own() -> None:
    buckets = [bucket("wide"), bucket("empty"), bucket("typing", over="drop"), bucket("trial", OBSERVE)]
    refused, passed = decide(buckets, [5.0, 0.0, 0.0, 0.0]), decide([bucket("a"), bucket("b", DELAY)], [1.0, 0.0])
    assert [outcome(refused, one, i) for i, one in enumerate(buckets)] == [None, "rejected", "dropped", "would_reject"]
    assert [outcome(passed, one, i) for i, one in enumerate([bucket("a"), bucket("b", DELAY)])] == [
        "allowed",
        "delayed",
    ]


# --- the same in the store

INTERVALS = (1e6, 1.37e6, 1.913e6)  # seconds for one token: nothing refills, and no two waits are the same
MODES: tuple[Enforcement, ...] = (REFUSE, REFUSE, DELAY, OBSERVE)
REQUESTS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(MODES), st.integers(1, 4), st.sampled_from(["reject", "drop"])),
    min_size=1,
    max_size=3,
    unique_by=lambda it: it[0],
)
CALLS = st.lists(
    st.tuples(st.lists(st.integers(1, 5), min_size=3, max_size=3), st.lists(REQUESTS, min_size=1, max_size=5)),
    max_size=12,
)
EXAMPLES = itertools.count()


@pytest.fixture(scope="module")
def redis(store_address: str) -> Iterator[Redis]:
    with Redis.from_url(store_address) as client:
        yield client


@settings(max_examples=300, deadline=None)
@given(CALLS)
def test_the_script_decides_what_decide_decides(
    redis: Redis, calls: list[tuple[list[int], list[list[tuple[int, Enforcement, int, Over]]]]]
) -> None:
    """Any requests on three buckets, several in a call, at any cost and in any mode, the bursts edited in between."""
    name = f"sl:{{l}}:example{next(EXAMPLES)}-"
    levels: dict[str, float] = {}
    for bursts, requests in calls:
        made = [
            [
                bucket(f"{name}{i}", mode, cost=cost, burst=bursts[i], interval=INTERVALS[i], over=over)
                for i, mode, cost, over in request
            ]
            for request in requests
        ]
        keys, arguments = take_arguments(made)
        rows = orjson.loads(redis.eval(TAKE.text, len(keys) + 1, *keys, clock_key(keys[0]), *arguments))
        for buckets, (marks, refused_for, delay, *after) in zip(made, rows, strict=True):
            before = [min(one.burst, levels.get(one.key, one.burst)) for one in buckets]
            ours, theirs = (
                decide(buckets, before),
                conclude(buckets, marks, refused_for / 1e6, delay / 1e6, after),
            )
            for field_name in ("verdict", "limit", "violated", "marks"):
                assert getattr(theirs, field_name) == getattr(ours, field_name)
            assert [theirs.retry_after, theirs.delay, *theirs.levels] == pytest.approx(
                [ours.retry_after, ours.delay, *ours.levels], rel=1e-4, abs=1e-4
            )
            after_before = zip(buckets, ours.levels, before, strict=True)
            levels |= {one.key: level for one, level, was in after_before if level != was}


@pytest.mark.parametrize("number", [50, 60, 64, MAX_LIMITS])
def test_of_any_number_of_limits_those_that_refuse_are_named(redis: Redis, number: int) -> None:
    name = f"sl:{{l}}:many{next(EXAMPLES)}-"
    buckets = [bucket(f"{name}{i}", burst=9) for i in range(number)]
    refusing = [0, number // 2, number - 2, number - 1]
    keys, arguments = take_arguments([[replace(buckets[i], cost=9) for i in refusing]])
    redis.eval(TAKE.text, len(keys) + 1, *keys, clock_key(keys[0]), *arguments)
    keys, arguments = take_arguments([buckets])
    ((marks, refused_for, delay, *after),) = orjson.loads(
        redis.eval(TAKE.text, len(keys) + 1, *keys, clock_key(keys[0]), *arguments)
    )
    decision = conclude(buckets, marks, refused_for / 1e6, delay / 1e6, after)
    assert decision.violated == tuple(buckets[i].limit.id for i in refusing)
    outcomes = [outcome(decision, one, i) for i, one in enumerate(buckets)]
    assert outcomes == ["rejected" if i in refusing else None for i in range(number)]
