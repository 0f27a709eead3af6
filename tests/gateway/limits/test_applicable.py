from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.limits.applicable import (
    DELAY,
    OBSERVE,
    REFUSE,
    Bucket,
    Limits,
    Subject,
    cost_of,
    cost_pointers,
    impossible,
    share_of,
)
from gateway.policies import (
    AddressList,
    BodyCost,
    Fixed,
    Header,
    Limit,
    ListEntry,
    Override,
    PathSegment,
    Per,
    Unreadable,
)
from gateway.request import Json
from sluice.config import Rate
from sluice.config.units import network
from sluice.http.problem import Refusal
from tests.gateway.making import HOURLY, a_client, a_limit, a_list, a_route

LISTS = {"office": a_list("203.0.113.0/28"), "laravel": a_list("127.0.0.1/32")}


def a_subject(
    event: str | None = None,
    session: str | None = None,
    *,
    workspace: str | None = None,
    ip: str = "192.0.2.7",
    relayed: bool = False,
) -> Subject:
    return Subject(a_client(ip), event, session, relayed, workspace)


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
    assert not applies(a_limit(per=("workspace",)), a_subject("message_sent", "s1"))
    assert not applies(a_limit(per=("ip", "session")), a_subject())


def test_per_nothing_is_one_bucket_for_all() -> None:
    assert key(a_limit("all"), a_subject("a", "s1")) == key(a_limit("all"), a_subject("b", "s2", ip="192.0.2.8"))


def test_each_subject_has_its_own_bucket() -> None:
    one = a_subject("a", "s1", workspace="w1")
    other = a_subject("b", "s2", workspace="w2", ip="192.0.2.8")
    subjects: tuple[Per, ...] = ("session", "workspace", "ip", "event")
    for per in subjects:
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
    edited = replace(limit, rate=Rate(5, 1.0), burst=1, over="queue", when_store_away="deny", enforce=0.0, cost=1)
    overridden = replace(limit, overrides=(Override("session", ("s1",), Rate(66666, 1.0), 55555, None),), enforce=0.5)
    subject = a_subject("message_send", "s1")
    assert key(limit, subject) == key(edited, subject) == key(overridden, subject)
    assert key(limit, subject).startswith("sl:{l}:send")
    assert not any(number in key(limit, subject) for number in ("77777", "88888", "99999"))


@pytest.mark.parametrize(
    ("over", "relayed", "observe", "mode"),
    [
        ("queue", True, False, DELAY),
        ("queue", False, False, REFUSE),
        ("reject", True, False, REFUSE),
        ("drop", True, False, REFUSE),
        ("queue", True, True, OBSERVE),
        ("reject", False, True, OBSERVE),
    ],
)
def test_only_what_is_relayed_can_wait(over: str, relayed: bool, observe: bool, mode: int) -> None:
    limit = replace(a_limit(observe=observe), over=over)  # type: ignore[arg-type]
    (bucket,) = Limits([limit], LISTS).buckets(a_subject(relayed=relayed))
    assert bucket.mode == mode


def test_the_limits_that_apply_come_in_their_order() -> None:
    limits = [a_limit("a"), a_limit("b", events=("x",)), a_limit("c", per=("session",)), a_limit("d", per=("ip",))]
    assert [bucket.limit.id for bucket in Limits(limits, LISTS).buckets(a_subject(session="s"))] == ["a", "c", "d"]


# --- addresses that share a bucket


def test_a_prefix_puts_ipv4_addresses_into_one_bucket() -> None:
    limit = a_limit(per=("ip",), prefixes=(24, 64))
    first, second, third = (key(limit, a_subject(ip=ip)) for ip in ("192.0.2.7", "192.0.2.200", "192.0.3.7"))
    assert first == second != third
    assert first == "sl:{l}:limit\x00192.0.2.0/24"


def test_an_ipv6_address_is_its_64_whatever_the_prefix_of_ipv4() -> None:
    for prefix in (24, 32):
        limit = a_limit(per=("ip",), prefixes=(prefix, 64))
        assert key(limit, a_subject(ip="2001:db8::1")) == key(limit, a_subject(ip="2001:db8::2"))
        assert key(limit, a_subject(ip="2001:db8::1")) != key(limit, a_subject(ip="2001:db8:0:1::1"))


def test_a_prefix_puts_ipv6_addresses_into_one_bucket_and_leaves_the_others_their_names() -> None:
    wide, narrow = a_limit(per=("ip",), prefixes=(32, 48)), a_limit(per=("ip",), prefixes=(24, 128))
    assert key(wide, a_subject(ip="2001:db8:7::1")) == key(wide, a_subject(ip="2001:db8:7:9::1"))
    assert key(wide, a_subject(ip="2001:db8:7::1")) == "sl:{l}:limit\x002001:db8:7::/48"
    assert key(wide, a_subject(ip="192.0.2.7")) == key(a_limit(per=("ip",)), a_subject(ip="192.0.2.7"))
    assert key(narrow, a_subject(ip="2001:db8::1")) != key(narrow, a_subject(ip="2001:db8::2"))
    assert key(narrow, a_subject(ip="192.0.2.7")) == "sl:{l}:limit\x00192.0.2.0/24"
    short = a_limit(per=("ip",), prefixes=(32, 32))
    assert key(short, a_subject(ip="2001:db8:7::1")) == "sl:{l}:limit\x002001:db8::/32"


def test_limits_of_one_file_may_have_different_prefixes() -> None:
    limits = [
        a_limit("a", per=("ip",), prefixes=(16, 64)),
        a_limit("b", per=("ip",)),
        a_limit("c", per=("ip",), prefixes=(24, 64)),
    ]
    keys = [bucket.key.partition("\x00")[2] for bucket in Limits(limits, LISTS).buckets(a_subject())]
    assert keys == ["192.0.0.0/16", "192.0.2.7", "192.0.2.0/24"]


# --- what has an end


def test_an_entry_that_has_ended_leaves_nobody_alone_any_more() -> None:
    lists = {"office": AddressList((ListEntry(network("192.0.2.7"), until=100.0),))}
    limits = Limits([a_limit(per=("ip",), exempt=("office",))], lists)
    assert [len(limits.buckets(a_subject(), now=now)) for now in (0.0, 99.0, 100.0, 101.0)] == [0, 0, 1, 1]


def test_an_override_that_has_ended_is_the_limit_again() -> None:
    limit = a_limit(per=("session",), burst=5, overrides=(Override("session", ("s1",), HOURLY, 50, 100.0),))
    limits = Limits([limit], LISTS)
    bursts = [limits.buckets(a_subject(session="s1"), now=now)[0].burst for now in (0.0, 99.0, 100.0)]
    assert bursts == [50, 50, 5]


# --- the numbers of a bucket


def test_a_bucket_has_the_numbers_of_its_limit() -> None:
    limit = a_limit(per=("session",), rate=Rate(5, 10.0), burst=7, cost=3)
    (bucket,) = Limits([limit], LISTS).buckets(a_subject(session="s1"))
    assert bucket == Bucket(limit, "sl:{l}:limit\0s1", REFUSE, interval=2.0, burst=7, cost=3)


def test_an_override_gives_a_subject_other_numbers_and_the_others_none() -> None:
    override = Override("session", ("vip-*",), Rate(100, 1.0), 200, None)
    limits = Limits([a_limit(per=("session",), rate=Rate(5, 10.0), burst=7, overrides=(override,))], LISTS)
    (vip,), (other,) = limits.buckets(a_subject(session="vip-1")), limits.buckets(a_subject(session="s1"))
    assert (vip.interval, vip.burst, other.interval, other.burst) == (0.01, 200, 2.0, 7)


def test_who_is_unlimited_has_no_bucket() -> None:
    limit = a_limit(overrides=(Override("list", ("office",), None, 0, None),))
    assert not applies(limit, a_subject(ip="203.0.113.4"))
    assert applies(limit, a_subject())


@pytest.mark.parametrize(
    ("found", "cost"),
    [
        (3, 3),
        (2.1, 3),
        (1, 1),
        (0, 1),
        (-5, 1),
        (0.2, 1),
        (10**30, 10**9),
        (1e300, 10**9),
        (float("inf"), 10**9),
        (["a", "b", "c"], 3),
        ([], 1),
        ({"a": 1, "b": 2}, 2),
        ({}, 1),
        (None, 1),
        (float("nan"), None),
        (True, None),
        ("12", None),
    ],
)
def test_a_body_costs_what_stands_where_the_limit_looks(found: object, cost: int | None) -> None:
    assert cost_of(found) == cost


def test_a_cost_is_looked_for_in_the_body() -> None:
    limits = Limits([a_limit("by-body", cost=BodyCost("/to")), a_limit("fixed", cost=2)], LISTS)

    def costs(json: Json | None) -> list[int]:
        return [bucket.cost for bucket in limits.buckets(a_subject(), json)]

    assert costs(Json({"to": ["a", "b", "c"]})) == [3, 2]
    assert costs(Json({"to": 7})) == [7, 2]
    assert costs(Json([])) == [1, 2]
    assert costs(None) == [1, 2]


@pytest.mark.parametrize(
    ("json", "what"),
    [
        (Json(None, readable=False), "the body is not JSON"),
        (Json({"to": "a,b"}), "/to is a string"),
        (Json({"to": True}), "/to is a boolean"),
        (Json({"to": float("nan")}), "/to is no number"),
    ],
)
def test_where_a_cost_cannot_be_read_the_limit_says_what_happens(json: Json, what: str) -> None:
    def cost(unreadable: Unreadable, **more: Any) -> int:
        limit = a_limit(cost=BodyCost("/to", unreadable), burst=7, **more)
        return Limits([limit], LISTS).buckets(a_subject(), json)[0].cost

    with pytest.raises(Refusal) as caught:
        cost("refuse")
    assert (caught.value.status, caught.value.more) == (400, {"limit": "limit"})
    assert caught.value.detail == (
        f"what this costs of limit limit cannot be read: {what}; /to must be a number, a list or an object"
    )
    assert (cost("max"), cost("1")) == (7, 1)
    assert cost("refuse", observe=True) == 7, "one that only observes refuses nobody"
    assert Limits([a_limit(cost=BodyCost("/to"))], LISTS).buckets(a_subject(), None)[0].cost == 1, "there is no body"


def test_a_cost_over_the_burst_never_passes_where_the_limit_would_refuse_or_delay() -> None:
    def refusing(limit: Limit, *, relayed: bool = False) -> str | None:
        limit = replace(limit, cost=BodyCost("/to"), burst=2)
        buckets = Limits([a_limit("first"), limit], LISTS).buckets(a_subject(relayed=relayed), Json({"to": 3}))
        found = impossible(buckets)
        return found.limit.id if found else None

    assert refusing(a_limit()) == "limit"
    assert refusing(a_limit(over="queue"), relayed=True) == "limit"
    assert refusing(a_limit(over="drop")) is None
    assert refusing(a_limit(observe=True)) is None
    assert impossible(Limits([a_limit(burst=2, cost=2)], LISTS).buckets(a_subject())) is None


def test_a_body_is_read_for_a_cost_only_where_a_request_can_meet_the_limit() -> None:
    send, spread = BodyCost("/to"), BodyCost("/many")
    limits = [
        a_limit("plain"),
        a_limit("send", events=("message_*",), cost=send),
        a_limit("again", events=("message_send",), cost=send),
        a_limit("session", per=("session",), cost=spread),
    ]
    plain = a_route("/a")
    assert cost_pointers(limits, plain) == ()
    assert cost_pointers(limits, replace(plain, event=Fixed("message_send"))) == (send,)
    assert cost_pointers(limits, replace(plain, event=Fixed("typing"))) == ()
    assert cost_pointers(limits, replace(plain, event=Header("X-Event"))) == (send,)
    assert cost_pointers(limits, replace(plain, session=PathSegment("session"))) == (spread,)
    assert cost_pointers([], plain) == ()


# --- the share for which a limit is enforced


def observed(limits: Limits, sessions: list[str]) -> set[str]:
    return {name for name in sessions if limits.buckets(a_subject(session=name))[0].mode == OBSERVE}


def test_a_share_is_enforced_for_the_same_subjects_each_time_and_the_others_are_observed() -> None:
    limit = a_limit(per=("session",), enforce=0.25)
    sessions = [f"session-{number}" for number in range(4000)]
    first = observed(Limits([limit], LISTS), sessions)
    assert first == observed(Limits([replace(limit, burst=9)], LISTS), sessions)
    assert 0.22 < 1 - len(first) / len(sessions) < 0.28


def test_a_larger_share_keeps_those_of_the_smaller_one() -> None:
    sessions = [f"session-{number}" for number in range(500)]
    shares = [
        observed(Limits([a_limit(per=("session",), enforce=share)], LISTS), sessions) for share in (0.1, 0.4, 1.0)
    ]
    assert shares[0] > shares[1] > shares[2] == set()


def test_the_shares_of_two_limits_are_not_the_same_subjects() -> None:
    sessions = [f"session-{number}" for number in range(4000)]
    one, other = (
        set(sessions) - observed(Limits([a_limit(name, per=("session",), enforce=0.5)], LISTS), sessions)
        for name in ("a", "b")
    )
    assert 0.2 < len(one & other) / len(sessions) < 0.3


def test_where_a_subject_stands_is_written_in_stone() -> None:
    assert share_of("send\0session-1") == 0.985415847280164


def test_outside_of_the_share_nothing_waits_and_inside_it_waits_as_always() -> None:
    limits = Limits([a_limit(per=("session",), enforce=0.5, over="queue")], LISTS)
    modes = {limits.buckets(a_subject(session=f"s{number}", relayed=True))[0].mode for number in range(100)}
    assert modes == {OBSERVE, DELAY}
