"""Buckets that this process counts alone, while the store is away and for `sluice replay`."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings, strategies as st

from gateway.limits.applicable import DELAY, REFUSE, Bucket, Enforcement
from gateway.limits.local import LocalBuckets
from sluice.config import Rate
from tests.gateway.making import a_limit


def bucket(
    name: str = "limit", mode: Enforcement = REFUSE, *, cost: int = 1, burst: int = 5, interval: float = 100.0
) -> Bucket:
    return Bucket(a_limit(name, rate=Rate(1, interval), burst=burst), name, mode, interval, burst, cost)


@dataclass
class Naive:
    """Every token by itself: `burst` of them, each of which comes back `interval` after the one before it did."""

    interval: float
    burst: int
    back_at: list[float] = field(default_factory=list)

    def takes(self, now: float) -> bool:
        self.back_at = [at for at in self.back_at if at > now]
        if len(self.back_at) == self.burst:
            return False
        self.back_at.append(max([now, *self.back_at]) + self.interval)
        return True


@settings(deadline=None)
@given(
    st.integers(1, 5),
    st.sampled_from([1.0, 2.0, 0.25, 8.0]),
    st.lists(st.integers(0, 24).map(lambda quarters: quarters / 4), max_size=60),
)
def test_a_local_bucket_decides_like_one_that_keeps_every_token(
    burst: int, interval: float, pauses: list[float]
) -> None:
    local, naive, one = LocalBuckets(), Naive(interval, burst), bucket(burst=burst, interval=interval)
    now = 0.0
    for pause in pauses:
        now += pause
        assert (local.take([one], now).verdict == "pass") == naive.takes(now)


@settings(deadline=None)
@given(st.floats(0.001, 1000), st.integers(1, 100), st.lists(st.floats(0, 10), max_size=20))
def test_a_local_bucket_says_exactly_how_long_to_wait(interval: float, burst: int, pauses: list[float]) -> None:
    local, one, now = LocalBuckets(), bucket(burst=burst, interval=interval), 0.0
    for pause in pauses:
        now += pause * interval
        decision = local.take([one], now)
        if decision.verdict != "pass":
            now += decision.retry_after
            assert local.take([one], now).verdict == "pass"


def test_a_local_bucket_does_not_refill_when_the_clock_goes_back() -> None:
    local, one = LocalBuckets(), bucket(burst=1, interval=1.0)
    assert local.take([one], 100.0).verdict == "pass"
    assert local.take([one], 50.0).retry_after == 1.0


def test_of_too_many_local_buckets_the_least_recently_used_is_forgotten() -> None:
    local, one = LocalBuckets(16 * 1024), bucket("one", burst=1)
    for n in range(100):
        for each in (one, bucket(f"other {n}")):
            local.take([each], 0.0)
    assert 0 < local.forgotten < 100
    assert local.take([one], 0.0).verdict == "reject"


def test_a_part_of_a_bucket_has_its_part_of_rate_and_burst_and_room_for_one_request() -> None:
    local = LocalBuckets()
    verdicts = [local.take([bucket(burst=20)], 0.0, parts=4) for _ in range(6)]
    assert [decision.verdict for decision in verdicts] == ["pass"] * 5 + ["reject"]
    assert verdicts[5].retry_after == 400.0
    assert local.take([bucket("dear", burst=20, cost=15)], 0.0, parts=4).verdict == "pass"


# --- going on from the store, and owing it


def owed(local: LocalBuckets, now: float) -> list[float]:
    return [charge.tokens for charge in local.owed(now, 10)]


def test_it_goes_on_from_the_level_that_the_store_said_last() -> None:
    local, one = LocalBuckets(), bucket()
    local.saw(one, 2.0, 0.0)
    assert [local.take([one], 50.0).verdict for _ in range(3)] == ["pass", "pass", "reject"]
    assert local.take([one], 50.0).retry_after == 50.0


def test_a_second_absence_grants_nothing_anew() -> None:
    local, one = LocalBuckets(), bucket()
    for _ in range(5):
        assert local.take([one], 0.0).verdict == "pass"
    assert owed(local, 0.0) == [5.0]
    assert local.take([one], 0.0).verdict == "reject", "whether or not the store was asked in between"


def test_what_has_passed_is_owed_once_and_no_more_than_the_bucket_lacks_for_it() -> None:
    local, one, other = LocalBuckets(), bucket(), bucket("other")
    local.saw(one, 4.0, 0.0)
    local.saw(other, 1.0, 0.0)
    local.take([one], 0.0)
    local.take([one], 0.0)
    local.take([other], 0.0)
    assert local.owing == 2
    assert owed(local, 200.0) == [1.0, 1.0], "by now the first would be full, and one of its two has come back"
    assert owed(local, 200.0) == []
    assert local.owing == 0


def test_a_part_goes_on_from_its_part_of_the_level_and_owes_whole_tokens() -> None:
    local, one = LocalBuckets(), bucket(burst=20)
    local.saw(one, 8.0, 0.0)
    assert [local.take([one], 0.0, parts=4).verdict for _ in range(3)] == ["pass", "pass", "reject"]
    assert owed(local, 0.0) == [2.0]


def test_what_a_dear_request_took_stays_owed_behind_cheap_ones() -> None:
    local, dear, cheap = LocalBuckets(), bucket(burst=20, cost=15), bucket(burst=20)
    assert local.take([dear], 0.0, parts=4).verdict == "pass"
    assert local.take([cheap], 0.0, parts=4).verdict == "reject"
    assert owed(local, 0.0) == [15.0]


def test_a_dear_request_that_another_limit_refuses_leaves_no_more_than_the_part() -> None:
    local, dear, cheap, empty = LocalBuckets(), bucket(burst=20, cost=15), bucket(burst=20), bucket("empty")
    local.saw(empty, 0.0, 0.0)
    assert local.take([dear, empty], 0.0, parts=4).verdict == "reject"
    assert [local.take([cheap], 0.0, parts=4).verdict for _ in range(6)] == ["pass"] * 5 + ["reject"]
    assert owed(local, 0.0) == [5.0]


def test_the_debt_of_a_queue_goes_on_and_is_owed_too() -> None:
    local, one = LocalBuckets(), bucket(mode=DELAY)
    local.saw(one, -3.0, 0.0)
    assert local.take([one], 0.0).delay == 400.0
    assert owed(local, 0.0) == [1.0]


def test_what_is_not_charged_yet_is_not_forgotten_when_the_store_answers() -> None:
    local, one = LocalBuckets(), bucket()
    local.saw(one, 5.0, 0.0)
    local.take([one], 0.0)
    local.saw(one, 3.0, 0.0)  # the store does not know of it
    assert local.take([one], 0.0).levels == [1.0]
    assert owed(local, 0.0) == [2.0]


def test_what_refuses_or_is_refused_owes_nothing() -> None:
    local, wide, empty = LocalBuckets(), bucket("wide"), bucket("empty")
    local.saw(empty, 0.0, 0.0)
    assert local.take([wide, empty], 0.0).verdict == "reject"
    assert local.owing == 0


def test_a_bucket_that_is_forgotten_owes_nothing() -> None:
    local = LocalBuckets(16 * 1024)
    local.take([bucket("one")], 0.0)
    for n in range(100):
        local.saw(bucket(f"other {n}"), 3.0, 0.0)
    assert local.owing == 0 < local.forgotten


STEPS = st.lists(st.tuples(st.sampled_from(["saw", "take", "owed"]), st.integers(0, 6), st.floats(0, 300)), max_size=40)


@given(STEPS, st.integers(1, 4))
def test_whatever_happens_no_more_passes_than_the_levels_allow(steps: list[tuple[str, int, float]], parts: int) -> None:
    """A store that is charged, and this process between its absences: never more than the burst and what came back."""
    local, one = LocalBuckets(), bucket()
    store, at, now, taken = 5.0, 0.0, 0.0, 0
    for what, times, pause in steps:
        now += pause
        store, at = min(5.0, store + (now - at) / 100), now
        if what == "take":
            taken += sum(local.take([one], now, parts).verdict == "pass" for _ in range(times))
        elif what == "owed":
            store -= sum(owed(local, now))
        else:
            store -= sum(owed(local, now))
            local.saw(one, store, now)
        assert taken <= 5 + now / 100 + 1e-6
        assert 0 <= local.owing <= 1
