"""Who is told what, when: by examples, and as rules that hold for any course of things."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, strategies as st

from gateway.alerts.board import Memory, decode, merged
from gateway.alerts.decide import (
    GIVE_UP,
    MAX_ALERTS,
    MAX_SETTLING,
    Alerts,
    Due,
    Found,
    Seen,
    Silence,
    after,
    decide,
)
from gateway.policies import AlertPolicy
from tests.gateway.alerts.making import WELL, a_rule, policy, wrong


@dataclass
class Course:
    """Looks one after the other, by a clock of their own; whoever is told takes it, unless told otherwise."""

    policy: AlertPolicy
    now: float = 1000.0
    alerts: Alerts = field(default_factory=dict)
    silences: list[Silence] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)

    def look(self, seen: Seen, passed: float = 0.0) -> list[tuple[str, str, str]]:
        """Receiver, event and subject of what was told."""
        self.now += passed
        dues, self.alerts = decide(seen, self.policy, self.alerts, self.silences, self.now)
        taken = [due for due in dues if due.receiver not in self.refusing]
        self.alerts = after(self.alerts, taken, self.now)
        return [(due.receiver, due.event, due.alert.subject) for due in taken]


FIRING, STILL, OVER = ("chat", "firing", "a"), ("chat", "still_firing", "a"), ("chat", "resolved", "a")


def test_what_lasts_is_told_once_then_again_each_repeat_and_once_that_it_is_over() -> None:
    course = Course(policy(a_rule(repeat=600.0)))
    assert course.look(wrong("a")) == [FIRING]
    assert course.look(wrong("a"), 599) == []
    assert course.look(wrong("a"), 1) == [STILL]
    assert course.look(wrong("a"), 599) == []
    assert course.look(WELL, 1) == [OVER]
    assert course.look(WELL, 10_000) == []
    assert course.alerts == {}


def test_without_repeat_it_is_told_once() -> None:
    course = Course(policy(a_rule(repeat=0.0)))
    assert course.look(wrong("a")) == [FIRING]
    assert course.look(wrong("a"), 10**6) == []


def test_what_does_not_last_for_long_enough_is_not_told() -> None:
    course = Course(policy(a_rule(hold=60.0)))
    assert course.look(wrong("a")) == []
    assert course.look(wrong("a"), 59) == []
    assert course.look(WELL, 0.5) == []
    assert course.look(wrong("a"), 0.5) == []
    assert course.look(wrong("a"), 59) == []
    assert course.look(wrong("a"), 1) == [FIRING]


def test_it_is_over_when_it_was_well_for_as_long() -> None:
    course = Course(policy(a_rule(hold=60.0)))
    course.look(wrong("a"))
    assert course.look(wrong("a"), 60) == [FIRING]
    for _ in range(5):
        assert course.look(WELL, 30) == []
        assert course.look(wrong("a"), 30) == []
    assert course.look(WELL, 1) == []
    assert course.look(WELL, 60) == [OVER]


def test_nobody_waits_longer_than_five_minutes_to_hear_that_it_is_over() -> None:
    course = Course(policy(a_rule(hold=7200.0)))
    course.look(wrong("a"))
    assert course.look(wrong("a"), 7200) == [FIRING]
    course.look(WELL, 1)
    assert course.look(WELL, MAX_SETTLING) == [OVER]


def test_who_did_not_take_it_is_told_when_he_does_and_never_only_that_it_is_over() -> None:
    course = Course(policy(a_rule(to=("chat", "pager"))), refusing={"chat"})
    assert course.look(wrong("a")) == [("pager", "firing", "a")]
    assert course.look(wrong("a"), 5) == []
    course.refusing.clear()
    assert course.look(wrong("a"), 5) == [FIRING]
    course.refusing.add("chat")
    assert course.look(WELL, 5) == [("pager", "resolved", "a")]
    course.refusing.clear()
    assert course.look(WELL, 5) == [OVER]
    other = Course(policy(a_rule()), refusing={"chat"})
    other.look(wrong("a"))
    other.refusing.clear()
    assert other.look(WELL, 5) == []


def test_what_is_over_while_it_is_being_told_is_ended_too() -> None:
    course = Course(policy(a_rule()))
    dues, course.alerts = decide(wrong("a"), course.policy, {}, [], course.now)
    assert course.look(WELL, 5) == []
    assert course.alerts == {}
    course.alerts = after(course.alerts, dues, course.now)
    assert course.look(WELL, 5) == [OVER]
    assert course.alerts == {}


def test_who_does_not_hear_that_it_is_over_is_given_up_after_a_day() -> None:
    course = Course(policy(a_rule()))
    course.look(wrong("a"))
    course.refusing.add("chat")
    course.look(WELL, 5)
    assert len(course.alerts) == 1
    course.look(WELL, GIVE_UP + 1)
    assert course.alerts == {}


def test_a_silence_keeps_it_back_and_what_is_due_then_is_told_after() -> None:
    course = Course(policy(a_rule()), silences=[Silence("circuit_open", "a*", 2000.0)])
    assert course.look(wrong("a", "b")) == [("chat", "firing", "b")]
    assert course.look(wrong("a", "b"), 100) == []
    assert course.look(wrong("a", "b"), 900) == [FIRING]
    course.silences = [Silence("*", "*", 4000.0)]
    assert course.look(WELL, 100) == []
    assert course.look(WELL, 2000) == [OVER, ("chat", "resolved", "b")]


def test_what_nobody_can_know_now_stays_as_it_is() -> None:
    course = Course(policy(a_rule(), a_rule("store_away")))
    course.look(wrong("a"))
    away = replace(wrong("", kind="store_away"), unknown=frozenset(["circuit_open"]))
    assert course.look(away, 600) == [("chat", "firing", "")]
    assert course.look(wrong("a"), 600) == [("chat", "resolved", "")]
    assert course.look(WELL, 5) == [OVER]


def test_an_edit_of_a_rule_tells_nobody_anew() -> None:
    course = Course(policy(a_rule()))
    course.look(wrong("a"))
    course.policy = policy(a_rule("dead_letters"), a_rule(hold=30.0, to=("chat", "pager"), repeat=300.0))
    assert course.look(wrong("a"), 60) == [("pager", "firing", "a")]
    assert course.look(wrong("a"), 240) == [STILL]


def test_a_rule_that_is_gone_ends_what_it_told() -> None:
    course = Course(policy(a_rule()))
    course.look(wrong("a"))
    course.policy = policy()
    assert course.look(wrong("a"), 5) == [OVER]
    assert course.alerts == {}


def test_a_receiver_that_is_gone_is_forgotten() -> None:
    course = Course(policy(a_rule(to=("chat", "pager"))))
    course.look(wrong("a"))
    without = policy(a_rule(to=("chat",)))
    course.policy = replace(without, receivers={"chat": without.receivers["chat"]})
    assert course.look(WELL, 5) == [OVER]
    assert course.alerts == {}


def test_only_what_is_over_the_threshold_and_named_is_wrong() -> None:
    rule = a_rule("backlog_age", over=60.0, only=("lar*", "x[1]"))
    course = Course(policy(rule))
    ages = (("laravel", 60.0), ("larry", 60.1), ("crm", 1000.0), ("x[1]", 61.0))
    seen = Seen(tuple(Found("backlog_age", name, "late", age) for name, age in ages))
    assert course.look(seen) == [("chat", "firing", "larry"), ("chat", "firing", "x[1]")]


def test_two_rules_of_a_kind_are_told_each_by_itself() -> None:
    rules = a_rule("backlog_age", over=60.0), a_rule("backlog_age", over=600.0, to=("pager",))
    course = Course(policy(*rules))
    assert policy(*rules).ids == ("backlog_age", "backlog_age#2")
    assert course.look(Seen((Found("backlog_age", "a", "late", 61.0),))) == [FIRING]
    assert course.look(Seen((Found("backlog_age", "a", "late", 601.0),))) == [("pager", "firing", "a")]


def test_there_is_a_bound_to_what_is_remembered() -> None:
    course = Course(policy(a_rule("session_disputed")))
    many = wrong(*map(str, range(MAX_ALERTS + 10)), kind="session_disputed")
    assert len(course.look(many)) == MAX_ALERTS == len(course.alerts)


def test_what_is_remembered_survives_the_store() -> None:
    course = Course(policy(a_rule(hold=30.0)))
    for passed in (0, 30, 7):
        course.look(wrong("a", "\ud83d <!channel> \U0001f600", text="x\x00y"), passed)
    course.look(wrong("b"), 5)
    assert decode(Memory(course.alerts).encode()).alerts == course.alerts


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"alerts": [{"other": 1}], "receivers": {}}', b"\xff"])
def test_what_another_version_remembers_is_left_out(text: bytes) -> None:
    assert decode(text) == Memory()


def test_of_two_changes_at_once_neither_is_lost() -> None:
    course = Course(policy(a_rule()))
    course.look(wrong("a", "b"))
    base = Memory(course.alerts)
    mine = Memory({key: replace(one, notified={}) if key[1] == "a" else one for key, one in base.alerts.items()})
    theirs = Memory({key: one for key, one in base.alerts.items() if key[1] == "a"})
    both = merged(base, mine, theirs)
    assert [(key[1], one.notified) for key, one in both.alerts.items()] == [("a", {})]


# --- for any course of things

MOMENTS = st.lists(
    st.tuples(
        st.sampled_from([1.0, 4.0, 30.0, 61.0, 1000.0]),
        st.sets(st.sampled_from(["a", "b"])),
        st.sampled_from(["", "", "", "silence", "restart", "refuse", "unknown"]),
    ),
    max_size=60,
)


@given(MOMENTS, st.sampled_from([0.0, 10.0, 60.0, 900.0]), st.sampled_from([0.0, 60.0, 3600.0]))
def test_whatever_happens_each_outage_is_told_once_and_ended_once(
    moments: list[tuple[float, set[str], str]], hold: float, repeat: float
) -> None:
    rule = a_rule(hold=hold, repeat=repeat, to=("chat", "pager"))
    course = Course(policy(rule))
    last: dict[tuple[str, str], tuple[str, float]] = {}
    wrong_since: dict[str, float] = {}
    notified: dict[tuple[str, str], list[str]] = defaultdict(list)
    disturbed = False
    for passed, subjects, event in moments:
        disturbed |= event in ("silence", "refuse", "unknown")
        if event == "restart":
            course.alerts = decode(Memory(course.alerts).encode()).alerts
        course.silences = [Silence("circuit_open", "a", course.now + 10**6)] if event == "silence" else []
        course.refusing = {"chat"} if event == "refuse" else set()
        unknown = frozenset(["circuit_open"] if event == "unknown" else [])
        seen = replace(wrong(*sorted(subjects)), unknown=unknown)
        now = course.now + passed
        for subject in "ab":
            if subject in subjects:
                wrong_since.setdefault(subject, now)
            elif not unknown:
                wrong_since.pop(subject, None)
        for receiver, kind, subject in course.look(seen, passed):
            assert not (event == "silence" and subject == "a")
            assert not (event == "refuse" and receiver == "chat")
            before, at = last.get((receiver, subject), ("resolved", 0.0))
            if kind == "firing":
                assert before == "resolved"
                assert subject in subjects
            elif kind == "still_firing":
                assert before != "resolved"
                assert repeat
                assert now - at >= repeat
            else:
                assert before != "resolved"
                assert subject not in subjects
            if kind == "firing" and not notified[receiver, subject] and not disturbed:
                assert now - wrong_since[subject] >= hold
            last[receiver, subject] = kind, now
            notified[receiver, subject].append(kind)
    course.silences, course.refusing = [], set()
    for _ in range(3):
        for receiver, kind, subject in course.look(WELL, MAX_SETTLING + 1):
            assert kind == "resolved"
            notified[receiver, subject].append(kind)
    for kinds in notified.values():
        assert kinds.count("firing") == kinds.count("resolved")
        assert kinds[-1] == "resolved"
    assert course.alerts == {}


@given(MOMENTS)
def test_a_due_is_always_one_that_can_be_sent(moments: list[tuple[float, set[str], str]]) -> None:
    course, asked = Course(policy(a_rule(hold=10.0))), list[Due]()
    for passed, subjects, _ in moments:
        course.now += passed
        dues, course.alerts = decide(wrong(*subjects), course.policy, course.alerts, [], course.now)
        asked += dues
        if dues and passed > 10:
            course.alerts = after(course.alerts, dues, course.now)
        assert after(course.alerts, dues, course.now).keys() <= course.alerts.keys()
    assert all(due.receiver in course.policy.receivers for due in asked)
