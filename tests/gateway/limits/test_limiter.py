from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from fractions import Fraction

import orjson
import pytest
from hypothesis import given, settings, strategies as st
from redis import Redis

from gateway.limits import peers
from gateway.limits.applicable import DELAY, GIVE_BACK, OBSERVE, REFUSE, Bucket, Enforcement
from gateway.limits.decide import PASS, Decision
from gateway.limits.limiter import Limiter
from gateway.plan import retry_after
from gateway.policies import Limit
from sluice.config import Rate, units
from sluice.store.client import Store, clock_key, load_script
from tests.gateway.making import HOURLY, a_limit
from tests.gateway.store_link import Link, link_to
from tests.waiting import until

pytestmark = pytest.mark.anyio

TAKE = load_script("gateway.limits", "take")


def bucket(limit: Limit, subject: str = "s1", mode: Enforcement = REFUSE, cost: int = 1) -> Bucket:
    key = "sl:{l}:" + limit.id + "\0" + subject
    return Bucket(limit, key, mode, limit.rate.interval, limit.burst, cost)


async def verdicts(limiter: Limiter, times: int, *buckets: Bucket) -> list[str]:
    return [(await limiter.take(list(buckets))).verdict for _ in range(times)]


async def left_in(limiter: Limiter, one: Bucket) -> int:
    """How many tokens there are, found by taking them all."""
    taken = 0
    while (await limiter.take([replace(one, mode=REFUSE)])).verdict == "pass":
        taken += 1
    return taken


@pytest.fixture
def limiter(store: Store) -> Limiter:
    return Limiter(store)


# --- what passes


async def test_the_burst_passes_and_no_more(limiter: Limiter) -> None:
    limit = a_limit("send", rate=HOURLY, burst=3)
    assert await verdicts(limiter, 5, bucket(limit)) == ["pass"] * 3 + ["reject"] * 2
    assert await verdicts(limiter, 1, bucket(limit, "s2")) == ["pass"]


@pytest.mark.parametrize(
    ("rate", "burst", "cost"),
    [("1000000/second", 10**9, 10**9), ("1000000000/hour", 10**9, 1), ("1/366 days", 9, 9), ("10/year", 100, 100)],
)
async def test_the_largest_numbers_that_a_file_may_hold_survive_the_store(
    limiter: Limiter, store: Store, rate: str, burst: int, cost: int
) -> None:
    one = bucket(a_limit("extreme", rate=units.rate(rate), burst=burst), cost=cost)
    assert await verdicts(limiter, 2, one) == ["pass", "reject" if cost == burst else "pass"]
    full_in = await store.redis.pttl(one.key) / 1000
    assert 0.9 * cost * one.interval < full_in <= 2 * cost * one.interval + 2


async def test_without_buckets_everything_passes_and_nobody_asks_the_store(store: Store) -> None:
    before = await calls_of(store, "evalsha")
    assert await Limiter(store).take([]) == PASS
    assert await calls_of(store, "evalsha") == before


async def test_a_refusal_names_the_limit_that_refuses_for_longest(limiter: Limiter) -> None:
    short, long = bucket(a_limit("short", rate=Rate(1, 10.0))), bucket(a_limit("long", rate=Rate(1, 100.0)))
    assert (await limiter.take([short, long])).verdict == "pass"
    refused = await limiter.take([short, long])
    assert (refused.verdict, refused.limit) == ("reject", "long")
    assert 95 < refused.retry_after <= 100


async def test_a_limit_that_drops_says_so(limiter: Limiter) -> None:
    typing = bucket(a_limit("typing", over="drop"))
    assert await verdicts(limiter, 2, typing) == ["pass", "drop"]


async def test_never_more_than_burst_and_rate_in_any_window_whatever_the_number_of_gateways(store_url: str) -> None:
    rate, burst = Rate(200, 1.0), 20
    one = bucket(a_limit("all", rate=rate, burst=burst))
    passed: list[tuple[float, float]] = []
    asked: list[float] = []

    async def hammer(limiter: Limiter, end: float) -> None:
        while (before := time.monotonic()) < end:
            if (await limiter.take([one])).verdict == "pass":
                passed.append((before, time.monotonic()))
            asked.append(time.monotonic())

    async with AsyncExitStack() as stores:
        limiters = []
        for _ in range(4):
            store = Store(store_url, timeout=5.0)
            stores.push_async_callback(store.close)
            limiters.append(Limiter(store))
        begin = time.monotonic()
        await asyncio.gather(*(hammer(limiter, begin + 1.0) for limiter in limiters for _ in range(4)))

    passed.sort()
    for i, (first, _) in enumerate(passed):
        last = first
        for j in range(i, len(passed)):
            last = max(last, passed[j][1])
            assert j - i + 1 <= burst + (last - first) / rate.interval + 1e-6
    # From the first answer on: until then the bucket is full, and so it is while a busy machine asks nothing.
    moments = sorted(asked)
    idle = sum(max(0.0, later - earlier - 0.02) for earlier, later in itertools.pairwise(moments))
    asked_for = max(before for before, _ in passed) - moments[0] - idle
    assert len(passed) >= burst + asked_for / rate.interval - 3, "less than the limit allows"


async def test_all_or_nothing_a_refusal_takes_nothing_from_other_buckets(limiter: Limiter) -> None:
    empty, wide = bucket(a_limit("empty", burst=1)), bucket(a_limit("wide", burst=5))
    queued = bucket(a_limit("queued", burst=5, over="queue"), mode=DELAY)
    await limiter.take([empty])
    assert await verdicts(limiter, 10, wide, empty, queued) == ["reject"] * 10
    assert await left_in(limiter, wide) == 5
    assert await left_in(limiter, queued) == 5


async def test_concurrent_requests_on_crossing_buckets_are_all_or_nothing(limiter: Limiter) -> None:
    a, b, c = (bucket(a_limit(name, burst=30)) for name in "abc")
    decisions = await asyncio.gather(*(limiter.take(pair) for _ in range(40) for pair in ([a, b], [b, c], [c, a])))
    passed = sum(decision.verdict == "pass" for decision in decisions)
    left = [await left_in(limiter, one) for one in (a, b, c)]
    assert 2 * passed == 90 - sum(left)
    assert passed >= 30


async def test_what_can_wait_is_delayed_by_one_interval_more_each_time_and_never_refused(limiter: Limiter) -> None:
    queued = bucket(a_limit("message", rate=Rate(1, 100.0), burst=2, over="queue"), mode=DELAY)
    decisions = [await limiter.take([queued]) for _ in range(6)]
    assert [decision.verdict for decision in decisions] == ["pass"] * 6
    delays = [decision.delay for decision in decisions]
    assert delays[:2] == [0.0, 0.0]
    assert delays[2:] == pytest.approx([100, 200, 300, 400], abs=2.0)


async def test_the_longest_delay_counts(limiter: Limiter) -> None:
    short, long = (
        bucket(a_limit(f"{period}", rate=Rate(1, period), over="queue"), mode=DELAY) for period in (100.0, 1000.0)
    )
    await limiter.take([short, long])
    assert (await limiter.take([short, long])).delay == pytest.approx(1000, abs=5.0)


async def test_what_is_refused_is_not_delayed_as_well(limiter: Limiter) -> None:
    queued = bucket(a_limit("queued", over="queue"), mode=DELAY)
    await limiter.take([queued])
    await limiter.take([bucket(a_limit("empty"))])
    refused = await limiter.take([queued, bucket(a_limit("empty"))])
    assert (refused.verdict, refused.limit, refused.delay) == ("reject", "empty", 0.0)


async def test_a_limit_that_observes_never_refuses_and_takes_nothing_from_others(limiter: Limiter) -> None:
    trial, real = bucket(a_limit("trial", observe=True), mode=OBSERVE), bucket(a_limit("real", burst=5))
    assert await verdicts(limiter, 5, trial, real) == ["pass"] * 5
    assert await verdicts(limiter, 1, trial, real) == ["reject"]
    assert await verdicts(limiter, 3, trial) == ["pass"] * 3


# --- costs, and what a decision tells


async def test_a_request_takes_what_it_costs_or_nothing(limiter: Limiter) -> None:
    limit = a_limit("send", rate=HOURLY, burst=10)
    assert await verdicts(limiter, 2, bucket(limit, cost=4)) == ["pass", "pass"]
    refused = await limiter.take([bucket(limit, cost=4)])
    assert (refused.verdict, refused.retry_after) == ("reject", pytest.approx(2 * 3600, abs=5))
    assert await left_in(limiter, bucket(limit)) == 2


async def test_a_refusal_names_all_limits_that_refuse(limiter: Limiter) -> None:
    one, two, wide = bucket(a_limit("one")), bucket(a_limit("two")), bucket(a_limit("wide", burst=9))
    await limiter.take([one])
    await limiter.take([two])
    limiter.forget()
    assert (await limiter.take([wide, one, two])).violated == ("one", "two")


async def test_a_decision_tells_what_is_left_in_each_bucket(limiter: Limiter) -> None:
    narrow, wide = bucket(a_limit("narrow", burst=2)), bucket(a_limit("wide", burst=9), cost=3)
    assert (await limiter.take([narrow, wide])).levels == pytest.approx([1, 6], abs=0.01)
    assert (await limiter.take([narrow, wide])).levels == pytest.approx([0, 3], abs=0.01)
    limiter.forget()
    assert (await limiter.take([narrow, wide])).levels == pytest.approx([0, 3], abs=0.01)
    assert (await limiter.take([narrow])).levels == pytest.approx([0], abs=0.01)


async def test_a_bucket_is_small_in_the_store(limiter: Limiter, store: Store) -> None:
    one = bucket(a_limit("message"), subject="webjs_4711_1764000000_abcd")
    await limiter.take([one])
    assert (await store.commands(("STRLEN", one.key))) == [14]


# --- refusals that are remembered


async def test_a_flood_on_a_used_up_key_asks_the_store_once(limiter: Limiter, store: Store) -> None:
    one = bucket(a_limit("send", burst=1))
    await verdicts(limiter, 2, one)
    before = await calls_of(store, "evalsha")
    assert await verdicts(limiter, 1000, one) == ["reject"] * 1000
    assert await calls_of(store, "evalsha") == before


async def test_an_edit_forgets_what_was_refused(limiter: Limiter) -> None:
    limit = a_limit("send", burst=1)
    await verdicts(limiter, 2, bucket(limit))
    assert (await limiter.take([bucket(replace(limit, rate=Rate(1, 60.0)))])).retry_after <= 60, "other numbers"
    limiter.forget()
    assert await left_in(limiter, bucket(limit)) == 0


async def test_what_costs_less_than_what_was_refused_is_asked_for(limiter: Limiter) -> None:
    limit = a_limit("send", burst=3)
    assert await verdicts(limiter, 1, bucket(limit, cost=2)) == ["pass"]
    assert await verdicts(limiter, 1, bucket(limit, cost=2)) == ["reject"]
    assert await verdicts(limiter, 2, bucket(limit)) == ["pass", "reject"]


async def test_what_only_observes_is_counted_by_the_store_also_in_a_flood(limiter: Limiter, store: Store) -> None:
    full, trial = bucket(a_limit("full")), bucket(a_limit("trial", burst=5, observe=True), mode=OBSERVE)
    await verdicts(limiter, 2, full)
    assert await verdicts(limiter, 3, full, trial) == ["reject"] * 3
    assert await left_in(limiter, trial) == 2


async def test_a_remembered_refusal_ends_when_the_stores_does(limiter: Limiter) -> None:
    one = bucket(a_limit("quick", rate=Rate(20, 1.0), burst=1))
    for _ in range(10):
        refused, _, answered = await refusal_of(limiter, one)
        await limiter.take([one])
        await asyncio.sleep(max(0.0, refused.retry_after - (time.monotonic() - answered)))
        assert (await limiter.take([one])).verdict == "pass"


# --- several gateways, and none of them can ask


async def test_without_the_store_each_gateway_lets_its_part_through(link: Link, quick: Limiter, store: Store) -> None:
    for name in ("a", "b", "c"):
        await peers.run_once(store, name, Limiter(store))
    await peers.run_once(store, "quick", quick)
    assert quick.gateways == 4
    link.block()
    wide = bucket(a_limit("wide", rate=Rate(1, 100.0), burst=20))
    assert await verdicts(quick, 6, wide) == ["pass"] * 5 + ["reject"]
    assert (await quick.take([wide])).retry_after == pytest.approx(400, abs=2), "a quarter of the rate"


async def test_a_gateway_that_says_nothing_is_not_counted(
    store: Store, limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_SILENT_FOR", 50)
    await peers.run_once(store, "a", limiter)
    await asyncio.sleep(0.1)
    await peers.run_once(store, "b", limiter)
    assert limiter.gateways == 1


# --- in several slots


def spread(limit: Limit, mode: Enforcement = REFUSE, cost: int = 1) -> Bucket:
    return Bucket(limit, f"sl:{{l:{limit.id}}}:\0s1", mode, limit.rate.interval, limit.burst, cost)


async def test_what_one_slot_refuses_is_given_back_in_the_others(limiter: Limiter) -> None:
    empty, wide = spread(a_limit("empty")), spread(a_limit("wide", burst=5), cost=2)
    queued = spread(a_limit("queued", burst=5, over="queue"), mode=DELAY)
    await limiter.take([empty])
    limiter.forget()
    refused = await limiter.take([wide, empty, queued])
    assert (refused.verdict, refused.limit, refused.violated) == ("reject", "empty", ("empty",))
    assert await left_in(limiter, replace(wide, cost=1)) == 5
    assert await left_in(limiter, queued) == 5


async def test_what_was_given_back_is_not_taken_for_used_up(limiter: Limiter) -> None:
    empty, last = spread(a_limit("empty")), spread(a_limit("last"))
    await limiter.take([empty])
    limiter.forget()
    assert await verdicts(limiter, 1, last, empty) == ["reject"]
    assert await verdicts(limiter, 2, last) == ["pass", "reject"]


async def test_giving_back_never_gives_more_than_the_burst(limiter: Limiter) -> None:
    one = spread(a_limit("one", burst=3))
    await limiter.take([one])
    await limiter.take([replace(one, mode=GIVE_BACK, cost=9)])
    assert await left_in(limiter, one) == 3


async def test_over_several_slots_a_decision_is_told_as_one(limiter: Limiter) -> None:
    queued = spread(a_limit("queued", rate=Rate(1, 100.0), over="queue"), mode=DELAY)
    wide, trial = spread(a_limit("wide", burst=9)), spread(a_limit("trial", observe=True), mode=OBSERVE)
    assert (await limiter.take([wide, queued, trial])).levels == pytest.approx([8, 0, 0], abs=0.01)
    second = await limiter.take([wide, queued, trial])
    assert (second.verdict, second.delay) == ("pass", pytest.approx(100, abs=2))


async def test_in_several_slots_crossing_requests_never_pass_beyond_the_limit(limiter: Limiter, store: Store) -> None:
    """Wrong refusals are possible there, while one gives back what another is just asking for."""
    a, b, c = (spread(a_limit(name, burst=30)) for name in "abc")
    gateways = [limiter, Limiter(store)]
    pairs = [[a, b], [b, c], [c, a]]
    decisions = await asyncio.gather(*(gateway.take(pair) for _ in range(40) for gateway in gateways for pair in pairs))
    passed = sum(decision.verdict == "pass" for decision in decisions)
    for gateway in gateways:
        gateway.forget()
    left = [await left_in(limiter, one) for one in (a, b, c)]
    assert 2 * passed + sum(left) == 90, "what was taken for nothing came back, and nothing else"


# --- edits


async def test_a_smaller_burst_clamps_the_bucket(limiter: Limiter) -> None:
    wide = a_limit("send", burst=100)
    await limiter.take([bucket(wide)])
    assert await left_in(limiter, bucket(replace(wide, burst=3))) == 3


async def test_a_larger_burst_does_not_refill_the_bucket(limiter: Limiter) -> None:
    narrow = a_limit("send", burst=5)
    await verdicts(limiter, 3, bucket(narrow))
    assert await left_in(limiter, bucket(replace(narrow, burst=100))) == 2


async def test_another_rate_keeps_the_level(limiter: Limiter) -> None:
    limit = a_limit("send", rate=HOURLY, burst=5)
    await verdicts(limiter, 3, bucket(limit))
    assert await left_in(limiter, bucket(replace(limit, rate=Rate(2, 86400.0)))) == 2


# --- time


async def test_retry_after_is_exact_a_request_after_it_passes_and_one_before_it_does_not(limiter: Limiter) -> None:
    for amount in (3, 7):
        one = bucket(a_limit(f"a{amount}", rate=Rate(amount, 1.0), burst=1))
        for _ in range(3):
            refused, asked, answered = await refusal_of(limiter, one)
            await asyncio.sleep(refused.retry_after / 2)
            if (await limiter.take([one])).verdict == "pass":
                assert time.monotonic() - asked >= refused.retry_after, "before it was due"
                continue  # this machine slept longer than it was asked to
            await asyncio.sleep(refused.retry_after - (time.monotonic() - answered))
            assert (await limiter.take([one])).verdict == "pass"


async def refusal_of(limiter: Limiter, one: Bucket) -> tuple[Decision, float, float]:
    """A refusal, and the moments between which it was decided."""
    while True:
        asked = time.monotonic()
        if (decision := await limiter.take([one])).verdict != "pass":
            return decision, asked, time.monotonic()


async def test_refused_requests_do_not_push_the_wait_further_away(limiter: Limiter) -> None:
    one = bucket(a_limit("send", rate=Rate(1, 100.0)))
    await limiter.take([one])
    waits = [(await limiter.take([one])).retry_after for _ in range(20)]
    assert waits == sorted(waits, reverse=True)


@pytest.mark.parametrize(("seconds", "header"), [(0.0, b"1"), (0.2, b"1"), (1.0, b"1"), (1.01, b"2"), (59.5, b"60")])
def test_retry_after_on_the_wire_is_whole_seconds_and_never_too_short(seconds: float, header: bytes) -> None:
    assert retry_after(seconds) == header


async def test_a_bucket_is_gone_from_the_store_when_it_is_full_again(limiter: Limiter, store: Store) -> None:
    one = bucket(a_limit("quick", rate=Rate(100, 1.0), burst=10))
    await verdicts(limiter, 5, one)
    (ttl,) = await store.commands(("PTTL", one.key))
    assert 30 < ttl <= 1100
    await until(lambda: _gone(store, one.key), timeout=3, what="the bucket to expire")
    assert list((await limiter.take([one])).levels) == [9]


async def test_a_bucket_never_expires_before_it_is_full(limiter: Limiter, store: Store) -> None:
    one = bucket(a_limit("slow", rate=HOURLY, burst=5))
    await verdicts(limiter, 5, one)
    (ttl,) = await store.commands(("PTTL", one.key))
    assert 5 * 3600_000 - 1000 < ttl <= 5 * 3600_000 + 2000


async def _gone(store: Store, key: str) -> bool:
    (there,) = await store.commands(("EXISTS", key))
    return not there


# --- shared calls


async def calls_of(store: Store, command: str) -> int:
    stats = await store.redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


async def test_concurrent_requests_share_calls_and_are_decided_one_by_one(limiter: Limiter, store: Store) -> None:
    one = bucket(a_limit("shared", burst=50))
    await limiter.take([bucket(a_limit("warm"))])
    before = await calls_of(store, "evalsha")
    decisions = await asyncio.gather(*(limiter.take([one]) for _ in range(200)))
    assert sum(decision.verdict == "pass" for decision in decisions) == 50
    assert await calls_of(store, "evalsha") - before <= 5


async def test_a_store_that_forgot_the_script_learns_it_again(limiter: Limiter, store: Store) -> None:
    one = bucket(a_limit("send", burst=3))
    await limiter.take([one])
    await store.commands(("SCRIPT", "FLUSH"))
    assert await verdicts(limiter, 3, one) == ["pass", "pass", "reject"]


# --- the store away


@pytest.fixture
async def link(store_url: str) -> AsyncIterator[Link]:
    async with link_to(store_url) as link:
        yield link


@pytest.fixture
async def quick(link: Link) -> AsyncIterator[Limiter]:
    """A limiter as the gateway has it, behind a link that can be blocked."""
    store = Store(link.url, timeout=0.25)
    yield Limiter(store)
    await store.close()


async def test_with_the_store_away_each_limit_does_what_it_says(link: Link, quick: Limiter) -> None:
    link.block()
    allow = bucket(a_limit("allow", when_store_away="allow"))
    deny = bucket(a_limit("deny", when_store_away="deny"))
    local = bucket(a_limit("local", burst=2))
    assert await verdicts(quick, 3, allow) == ["pass"] * 3
    assert await quick.take([deny]) == Decision("unavailable", "deny", retry_after=1.0, violated=("deny",))
    assert await verdicts(quick, 3, local) == ["pass", "pass", "reject"]
    refused = await quick.take([local])
    assert refused.limit == "local"
    assert refused.retry_after == pytest.approx(3600, abs=5)


async def test_with_the_store_away_it_is_still_all_or_nothing(link: Link, quick: Limiter) -> None:
    link.block()
    wide, empty = bucket(a_limit("wide", burst=3)), bucket(a_limit("empty", burst=1))
    deny = bucket(a_limit("deny", when_store_away="deny"))
    await quick.take([empty])
    assert await verdicts(quick, 3, wide, empty) == ["reject"] * 3
    assert await verdicts(quick, 3, wide, deny) == ["unavailable"] * 3
    assert await verdicts(quick, 4, wide) == ["pass"] * 3 + ["reject"]


async def test_with_the_store_away_the_refusal_for_longest_is_told(link: Link, quick: Limiter) -> None:
    link.block()
    both = [bucket(a_limit("short", rate=Rate(1, 100.0))), bucket(a_limit("long", rate=Rate(1, 1000.0)))]
    await quick.take(both)
    refused = await quick.take(both)
    assert refused.limit == "long"
    assert refused.retry_after == pytest.approx(1000, abs=5)


async def test_with_the_store_away_drop_queue_and_observe_stay_what_they_are(link: Link, quick: Limiter) -> None:
    link.block()
    dropping = bucket(a_limit("typing", over="drop"))
    queued = bucket(a_limit("message", rate=Rate(1, 100.0), over="queue"), mode=DELAY)
    observed = bucket(a_limit("trial", observe=True, when_store_away="deny"), mode=OBSERVE)
    assert await verdicts(quick, 2, dropping) == ["pass", "drop"]
    assert [(await quick.take([queued])).delay for _ in range(3)] == pytest.approx([0, 100, 200], abs=2)
    assert await verdicts(quick, 2, observed) == ["pass"] * 2


async def test_a_silent_store_holds_nobody_longer_than_its_timeout(link: Link, quick: Limiter) -> None:
    link.block()
    one = bucket(a_limit("local", burst=10_000))

    async def timed(after: float) -> float:
        await asyncio.sleep(after)  # they come one after the other, most of them while the first one waits
        asked = time.monotonic()
        await quick.take([one])
        return time.monotonic() - asked

    waits = await asyncio.gather(*(timed(i / 1000) for i in range(400)))
    assert max(waits) < 0.25 + 0.25


async def test_a_store_that_is_not_there_at_all_holds_nobody() -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.25)
    one = bucket(a_limit("local", burst=2))
    asked = time.monotonic()
    assert await verdicts(Limiter(absent), 3, one) == ["pass", "pass", "reject"]
    assert time.monotonic() - asked < 0.25
    await absent.close()


async def test_while_the_store_is_away_it_is_not_asked_by_everybody(link: Link, quick: Limiter) -> None:
    link.block()
    one = bucket(a_limit("allow", when_store_away="allow"))
    await quick.take([one])
    asked, accepted = time.monotonic(), link.accepted
    for _ in range(1000):
        await quick.take([one])
    assert link.accepted - accepted <= 1 + (time.monotonic() - asked) / 0.25


async def test_it_recovers_by_itself_with_the_levels_in_the_store(link: Link, quick: Limiter) -> None:
    one = bucket(a_limit("send", burst=4, when_store_away="allow"))
    assert await verdicts(quick, 3, one) == ["pass"] * 3
    link.block()
    assert await verdicts(quick, 5, one) == ["pass"] * 5
    link.mend()

    async def decided_by_the_store() -> bool:
        return (await quick.take([one])).verdict == "reject"

    await until(decided_by_the_store, timeout=3, what="the store to decide again")


# --- take.lua and the clock

EXAMPLES = itertools.count()


@pytest.fixture(scope="module")
def redis(store_address: str) -> Iterator[Redis]:
    with Redis.from_url(store_address) as client:
        yield client


class Clock:
    """The store's clock, as a test wants it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(TAKE.text.replace("call('TIME')", "{ARGV[2], ARGV[3]}"))

    def take(self, key: str, now: int, interval: float, burst: int, cost: int) -> bool:
        asked = orjson.dumps({"buckets": [[interval, burst]], "requests": [[4, -cost]]})
        answer = orjson.loads(self._script([key, f"{key}:clock"], [asked, now // 1_000_000, now % 1_000_000]))
        self._redis.persist(key)  # its time is the test's too
        return not answer[0][0]


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from([1, 3, 7, 1000, 333_333, 60_000_000]),
    st.sampled_from([1, 3, 60]),
    st.lists(st.tuples(st.integers(0, 40_000_000), st.integers(1, 3)), min_size=1, max_size=40),
)
def test_at_any_moments_no_more_passes_than_an_exact_bucket_lets_through(
    redis: Redis, burst: int, period: int, amount: int, steps: list[tuple[int, int]]
) -> None:
    """Exact fractions beside it; 10 us are the least that it knows. A clock that goes back: tests/sluice/store."""
    clock, key = Clock(redis), f"sl:{{l}}:clock{next(EXAMPLES)}"
    interval = Fraction(period, amount)
    level, at, now = Fraction(burst), 0, 1_800_000_000_000_000
    for step, cost in steps:
        now += step
        exact = min(Fraction(burst), level + (now - at) / interval) if at else level
        passed = clock.take(key, now, float(interval), burst, cost)
        hair = Fraction(1, 10**6)
        assert not passed or exact >= cost - hair, "more than the limit"
        assert passed or exact < cost + hair + 10 / interval, "refused for nothing"
        if passed:
            level, at = exact - cost, now


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.sampled_from([1500, 3333.3333333333335, 10_000]), st.lists(st.integers(0, 3), max_size=60))
def test_the_script_refills_with_the_time_that_passes(
    redis: Redis, burst: int, interval: float, requests: list[int]
) -> None:
    """Between two moments of the store's clock, as many as a bucket may have let through, and not one less."""
    key = f"sl:{{l}}:refill{next(EXAMPLES)}"
    low = high = float(burst)  # the level, as far as it can be known from outside
    before = after = _now(redis)
    for busy in requests:
        for _ in range(busy * 10):
            redis.ping()
        earliest = _now(redis)
        one = orjson.dumps({"buckets": [[interval, burst]], "requests": [[4]]})
        ((refusing, wait, _, _),) = orjson.loads(redis.eval(TAKE.text, 2, key, clock_key(key), one))
        latest = _now(redis)
        low = min(burst, low + max(0, earliest - after) / interval)
        high = min(burst, high + (latest - before) / interval)
        before, after = earliest, latest
        if refusing:
            assert low < 1 + 1e-6
            assert (1 - high) * interval - 2 <= wait <= (1 - low) * interval + 2
            low = max(low, 1 - wait / interval - 1e-6) if wait else low
            high = min(high, 1 - (wait - 1) / interval + 1e-6)
        else:
            assert high > 1 - 1e-6
            low, high = max(low, 1) - 1, high - 1


def _now(redis: Redis) -> int:
    seconds, micros = redis.time()
    return int(seconds) * 1_000_000 + int(micros)
