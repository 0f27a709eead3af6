from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st

from gateway.limits.overrides import Overrides
from gateway.policies import AddressList, ListEntry, OverriddenBy, Override
from sluice.config import Rate
from sluice.config.units import network
from tests.gateway.making import a_client, a_list

LISTS = {"wide": a_list("192.0.2.0/24"), "narrow": a_list("192.0.2.7"), "other": a_list("198.51.100.0/24")}
NOW = 50.0


def an_override(by: OverriddenBy, *names: str, burst: int = 1, until: float | None = None) -> Override:
    return Override(by, names, Rate(1, 1.0), burst, until)


def found(
    *overrides: Override, session: str | None = "vip-7", workspace: str | None = "w1", now: float = NOW
) -> object:
    return Overrides(overrides, LISTS).of(session, workspace, a_client("192.0.2.7"), now)


BY_LIST = an_override("list", "wide")
BY_NARROW_LIST = an_override("list", "narrow")
BY_WORKSPACE_GLOB = an_override("workspace", "w*")
BY_WORKSPACE = an_override("workspace", "w1")
BY_ANY_SESSION = an_override("session", "*")
BY_GLOB = an_override("session", "vip-*")
BY_SESSION = an_override("session", "vip-7")
RISING = [BY_LIST, BY_NARROW_LIST, BY_WORKSPACE_GLOB, BY_WORKSPACE, BY_ANY_SESSION, BY_GLOB, BY_SESSION]


@given(st.lists(st.sampled_from(RISING), unique=True))
def test_the_most_specific_wins_wherever_it_stands(overrides: list[Override]) -> None:
    assert found(*overrides) is max(overrides, key=RISING.index, default=None)


@given(st.lists(st.tuples(st.sampled_from(RISING), st.sampled_from([None, 0.0, 50.0, 51.0])), max_size=6))
def test_the_most_specific_that_has_not_ended_wins(given: list[tuple[Override, float | None]]) -> None:
    overrides = [Override(it.by, it.names, it.rate, number, until) for number, (it, until) in enumerate(given)]
    counting = [(it, at) for (it, until), at in zip(given, overrides, strict=True) if until is None or until > NOW]
    best = max(counting, key=lambda pair: RISING.index(pair[0]), default=(None, None))
    assert found(*overrides) is best[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (an_override("session", "vip-7"), an_override("session", "x", "vip-7")),
        (an_override("session", "vip-*"), an_override("session", "vip-*7")),
        (an_override("workspace", "w*"), an_override("workspace", "w*", burst=2)),
        (an_override("list", "wide"), an_override("list", "wide", burst=2)),
    ],
)
def test_of_two_equals_the_first_wins(one: Override, other: Override) -> None:
    assert found(one, other) is one
    assert found(other, one) is other


def test_who_is_meant_by_nothing_has_none() -> None:
    assert found() is None
    assert found(an_override("session", "shop-*"), an_override("workspace", "w2"), an_override("list", "other")) is None
    assert found(BY_SESSION, BY_ANY_SESSION, BY_WORKSPACE, session=None, workspace=None) is None


def test_an_entry_of_a_list_that_has_ended_gives_way_to_a_wider_one() -> None:
    lists = {"a": AddressList((ListEntry(network("192.0.2.7"), until=100.0),)), "b": a_list("192.0.2.0/24")}
    overrides = Overrides([an_override("list", "a", burst=1), an_override("list", "b", burst=2)], lists)
    client = a_client("192.0.2.7")
    bursts = [it.burst for now in (99.0, 100.0) if (it := overrides.of(None, None, client, now))]
    assert bursts == [1, 2]


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("vip-*", "vip-", True),
        ("vip-*", "a-vip-1", False),
        ("*-vip", "a-vip", True),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a?c", "abc", False),
        ("a?c*", "a?cd", True),
        ("[ab]*", "a1", False),
        ("[ab]*", "[ab]1", True),
        ("a.c*", "abc", False),
        ("!x*", "!xy", True),
    ],
)
def test_only_a_star_is_special(glob: str, name: str, expected: bool) -> None:
    assert (found(an_override("session", glob), session=name) is not None) is expected


def test_a_name_made_up_to_be_slow_is_not() -> None:
    started = time.perf_counter()
    assert found(an_override("session", "*a" * 60 + "*b"), session="a" * 200) is None
    assert time.perf_counter() - started < 1
