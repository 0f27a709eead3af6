from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.buckets import Limits, LocalBucket, Subject
from runtime.policies import Limit, Rate
from tests.gateway.making import a_client, a_limit, networks

LISTS = {"office": networks("203.0.113.0/28"), "laravel": networks("127.0.0.1/32")}


def a_subject(
    event: str | None = None, session: str | None = None, *, ip: str = "192.0.2.7", relayed: bool = False
) -> Subject:
    return Subject(a_client(ip), event, session, relayed)


def applies(limit: Limit, subject: Subject) -> bool:
    return bool(Limits([limit], LISTS).buckets(subject))


def key(limit: Limit, subject: Subject) -> str:
    (bucket,) = Limits([limit], LISTS).buckets(subject)
    return bucket.key


def test_a_limit_without_events_applies_to_every_request() -> None:
    assert applies(a_limit(), a_subject())
    assert applies(a_limit(), a_subject("typing_indicator"))


@pytest.mark.parametrize(
    ("events", "event", "expected"),
    [
        (("message_sent",), "message_sent", True),
        (("message_sent",), "message_sen", False),
        (("message_sent",), "Message_Sent", False),
        (("message_sent",), None, False),
        (("a", "session_*"), "session_", True),
        (("a", "session_*"), "session_lost", True),
        (("a", "session_*"), "the_session_lost", False),
        (("*",), "anything", True),
        (("*",), None, False),
    ],
)
def test_a_limit_speaks_of_its_events(events: tuple[str, ...], event: str | None, expected: bool) -> None:
    assert applies(a_limit(events=events), a_subject(event)) is expected


def test_a_trusted_list_is_left_alone_by_the_limits_that_except_it() -> None:
    limit = a_limit(per=("ip",), exempt=("office", "laravel"))
    assert [applies(limit, a_subject(ip=ip)) for ip in ("203.0.113.4", "127.0.0.1", "203.0.113.16")] == [
        False,
        False,
        True,
    ]
    assert applies(a_limit(per=("ip",)), a_subject(ip="203.0.113.4"))


def test_a_limit_whose_subject_is_missing_does_not_apply() -> None:
    assert not applies(a_limit(per=("session",)), a_subject("message_sent"))
    assert not applies(a_limit(per=("event",)), a_subject(session="s1"))
    assert not applies(a_limit(per=("ip", "session")), a_subject())


def test_per_nothing_is_one_bucket_for_all() -> None:
    assert key(a_limit("all"), a_subject("a", "s1")) == key(a_limit("all"), a_subject("b", "s2", ip="192.0.2.8"))


def test_each_subject_has_its_own_bucket() -> None:
    one, other = a_subject("a", "s1"), a_subject("b", "s2", ip="192.0.2.8")
    for per in ("session", "ip", "event"):
        limit = a_limit(per=(per,))
        assert key(limit, one) != key(limit, other)
        assert key(limit, one) == key(limit, replace(one))


def test_addresses_of_one_64_share_a_bucket() -> None:
    limit = a_limit(per=("ip",))
    assert key(limit, a_subject(ip="2001:db8::1")) == key(limit, a_subject(ip="2001:db8::2"))


def test_two_limits_never_share_a_bucket() -> None:
    subject = a_subject("a", "s1")
    assert key(a_limit("one", per=("session",)), subject) != key(a_limit("two", per=("session",)), subject)


def test_two_subjects_never_share_a_bucket_whatever_they_are_called() -> None:
    limit = a_limit(per=("session", "event"))
    names = ("a", "b", "a|b", "b|c", "c", "|", "a b", "a:b", "{a}")
    subjects = [a_subject(event, session) for event in names for session in names]
    assert len({key(limit, subject) for subject in subjects}) == len(subjects)


def test_a_key_holds_no_number_of_the_limit_and_is_in_the_limits_slot() -> None:
    limit = a_limit("send", per=("session", "ip", "event"), rate=Rate(77777, 88888.0), burst=99999)
    edited = replace(limit, rate=Rate(5, 1.0), burst=1, over="queue", when_store_away="deny", observe=True)
    subject = a_subject("message_send", "s1")
    assert key(limit, subject) == key(edited, subject)
    assert key(limit, subject).startswith("sl:{limits}:send")
    assert not any(number in key(limit, subject) for number in ("77777", "88888", "99999"))


@pytest.mark.parametrize(
    ("over", "relayed", "observe", "how"),
    [
        ("queue", True, False, "q"),
        ("queue", False, False, "e"),
        ("reject", True, False, "e"),
        ("drop", True, False, "e"),
        ("queue", True, True, "o"),
        ("reject", False, True, "o"),
    ],
)
def test_only_what_is_relayed_can_wait(over: str, relayed: bool, observe: bool, how: str) -> None:
    limit = replace(a_limit(observe=observe), over=over)  # type: ignore[arg-type]
    (bucket,) = Limits([limit], LISTS).buckets(a_subject(relayed=relayed))
    assert bucket.how == how


def test_the_limits_that_apply_come_in_their_order() -> None:
    limits = [a_limit("a"), a_limit("b", events=("x",)), a_limit("c", per=("session",)), a_limit("d", per=("ip",))]
    assert [bucket.limit.id for bucket in Limits(limits, LISTS).buckets(a_subject(session="s"))] == ["a", "c", "d"]


# --- a bucket of this process


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
    bucket, naive = LocalBucket(float(burst), 0.0), Naive(interval, burst)
    now = 0.0
    for pause in pauses:
        now += pause
        passes = bucket.wait(now, interval, burst) == 0
        if passes:
            bucket.take()
        assert passes == naive.takes(now)


@settings(deadline=None)
@given(st.floats(0.001, 1000), st.integers(1, 100), st.lists(st.floats(0, 10), max_size=20))
def test_a_local_bucket_says_exactly_how_long_to_wait(interval: float, burst: int, pauses: list[float]) -> None:
    bucket, now = LocalBucket(0.0, 0.0), 0.0
    for pause in pauses:
        now += pause * interval
        wait = bucket.wait(now, interval, burst)
        if wait:
            now += wait
            assert bucket.wait(now, interval, burst) == 0
        bucket.take()


def test_a_local_bucket_does_not_refill_when_the_clock_goes_back() -> None:
    bucket = LocalBucket(0.0, 100.0)
    assert bucket.wait(50.0, 1.0, 5) == 1.0
    assert bucket.level == 0.0
