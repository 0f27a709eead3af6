from __future__ import annotations

from relay.dispatch.prefetch import LONGEST, Prefetch
from relay.queue.codec import Delivery


def delivery(name: str) -> Delivery:
    return Delivery(name, "", None, b"", (), b"", 0.0, 1, 0, b"n" + name.encode(), b"1", name.encode())


def after(ended: int, concurrency: int = 10, turns: int = 1) -> Prefetch:
    ahead = Prefetch(concurrency)
    for _ in range(turns):
        for _ in range(ended):
            ahead.note_ended()
        ahead.note_turn()
    return ahead


def test_nothing_is_wanted_before_anything_has_ended() -> None:
    assert Prefetch(10).wanted == after(0).wanted == 0


def test_one_that_ends_between_two_turns_finds_its_successor_in_time() -> None:
    assert after(1, turns=5).wanted == 0


def test_twice_as_many_as_ended_since_the_last_turn_are_wanted_and_never_more_than_allowed() -> None:
    assert after(11).wanted == 20
    assert after(1000).wanted == 60
    assert after(1000, concurrency=0).wanted == 0


def test_when_less_ends_less_is_wanted_from_turn_to_turn_down_to_nothing() -> None:
    ahead, seen = after(21), []
    for _ in range(6):
        ahead.note_turn()
        seen.append(ahead.wanted)
    assert seen == [20, 10, 5, 2, 1, 0]


def test_the_first_that_came_is_the_first_that_goes() -> None:
    ahead = Prefetch(10)
    ahead.add([[delivery("a")], [delivery("b")]], 0.0)
    ahead.add([[delivery("c")]], 0.0)
    assert [post[0].id for _ in range(3) if (post := ahead.take())] == ["a", "b", "c"]
    assert ahead.take() is None


def test_there_is_room_for_those_too_that_will_go_while_the_turn_is_under_way() -> None:
    ahead = after(4)
    assert ahead.room == ahead.wanted == 6
    ahead.add([[delivery(name)] for name in "abcdef"], 0.0)
    for _ in range(3):
        ahead.take()
        ahead.note_ended()
    ahead.note_turn()
    assert ahead.wanted == 4
    assert ahead.room == 4 + 3 - 3
    for _ in range(9):
        ahead.note_ended()
    ahead.note_turn()
    assert ahead.room == 16 + 3 - 3  # no more can go than are here


def test_it_is_time_for_a_turn_when_half_of_what_may_be_under_way_has_ended_or_nothing_is_left() -> None:
    ahead = after(4)
    assert ahead.is_time
    ahead.add([[delivery(name)] for name in "abcdef"], 0.0)
    for _ in range(4):
        assert not ahead.is_time
        ahead.note_ended()
    assert not ahead.is_time
    ahead.note_ended()
    assert ahead.is_time


def test_what_has_waited_too_long_is_given_back_and_the_rest_stays() -> None:
    ahead = Prefetch(10)
    ahead.add([[delivery("old")]], 0.0)
    ahead.add([[delivery("new")]], LONGEST / 2)
    assert [each.id for each in ahead.give_back(LONGEST)] == ["old"]
    assert [each.id for each in ahead.give_back()] == ["new"]
    assert not ahead
