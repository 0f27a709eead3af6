"""Which member a request goes to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.proxy.members import PROBE_EVERY, Member, chosen


class Load:
    """Requests under way to each member."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}

    def member(self, address: str, *, checked: bool = False) -> Member:
        self.of[address] = 0
        return Member("laravel", address, lambda: self.of[address], checked=checked)


@pytest.fixture
def load() -> Load:
    return Load()


@pytest.fixture
def three(load: Load) -> Iterator[list[Member]]:
    members = [load.member(address) for address in "abc"]
    yield members
    for member in members:
        member.remove()


def in_turn(members: list[Member], times: int) -> str:
    last, names = None, ""
    for _ in range(times):
        last, probe = chosen(members, [], last, 0.0, may_probe=False)
        assert not probe
        names += last.address
    return names


def test_the_one_with_the_fewest_requests_is_chosen(three: list[Member], load: Load) -> None:
    load.of |= {"a": 3, "b": 1, "c": 2}
    assert in_turn(three, 3) == "bbb"


def test_websockets_count_as_requests_do(three: list[Member], load: Load) -> None:
    three[0].websockets, three[1].websockets = 2, 1
    load.of |= {"a": 0, "b": 0, "c": 1}
    assert in_turn(three, 3) == "bcb"


def test_those_with_equally_many_take_turns(three: list[Member]) -> None:
    assert in_turn(three, 7) == "abcabca"


def test_what_was_tried_is_not_tried_again(three: list[Member]) -> None:
    assert chosen(three, three[:2], None, 0.0, may_probe=True) == (three[2], False)


def test_one_that_failed_is_left_out_until_it_answers(three: list[Member]) -> None:
    three[0].failed("refused")
    assert in_turn(three, 4) == "bcbc"
    three[0].answered()
    assert in_turn(three, 3) == "abc"


def test_one_that_is_left_out_gets_one_probe_a_second(three: list[Member]) -> None:
    out = three[1]
    out.failed("refused")
    due = out.next_probe
    assert chosen(three, [], None, due - 0.01, may_probe=True) == (three[0], False)
    assert chosen(three, [], None, due, may_probe=False) == (three[0], False)
    assert chosen(three, [], None, due, may_probe=True) == (out, True)
    out.next_probe = due + PROBE_EVERY
    assert chosen(three, [], None, due, may_probe=True) == (three[0], False)


def test_a_probe_needs_somebody_to_go_on_to(three: list[Member]) -> None:
    for member in three:
        member.failed("refused")
    _, probe = chosen(three, [], None, three[2].next_probe + 10, may_probe=True)
    assert not probe


def test_while_all_are_left_out_all_are_asked_as_if_none_were(three: list[Member], load: Load) -> None:
    for member in three:
        member.failed("refused")
    assert in_turn(three, 4) == "abca"
    load.of["a"] = 1
    assert in_turn(three, 4) == "bcbc"


def test_of_one_that_is_checked_the_check_says_whether_it_is_back(load: Load) -> None:
    members = [load.member("a", checked=True), load.member("b", checked=True)]
    members[0].failed("its check was answered 500")
    members[0].answered()
    assert chosen(members, [], None, members[0].next_probe, may_probe=True) == (members[1], False)
    members[0].back()
    assert in_turn(members, 2) == "ab"


def test_one_that_the_policies_no_longer_name_is_not_reported(load: Load) -> None:
    member = load.member("a")
    member.remove()
    member.failed("refused")
    assert not member.out
