from __future__ import annotations

from relay.dispatch.prefetch import MAX_WAIT, Prefetch
from relay.queue.codec import Delivery


def delivery(name: str) -> Delivery:
    return Delivery(name, "", None, b"", (), b"", 0.0, 1, 0, b"n" + name.encode(), b"1", name.encode())


def after(ended: int, concurrency: int = 10, polls: int = 1) -> Prefetch:
    prefetch = Prefetch(concurrency)
    for _ in range(polls):
        for _ in range(ended):
            prefetch.note_ended()
        prefetch.note_poll()
    return prefetch


def test_nothing_is_wanted_before_anything_has_ended() -> None:
    assert Prefetch(10).wanted == after(0).wanted == 0


def test_one_that_ends_between_two_polls_finds_its_successor_in_time() -> None:
    assert after(1, polls=5).wanted == 0


def test_twice_as_many_as_ended_since_the_last_poll_are_wanted_and_never_more_than_allowed() -> None:
    assert after(11).wanted == 20
    assert after(1000).wanted == 60
    assert after(1000, concurrency=0).wanted == 0


def test_when_less_ends_less_is_wanted_from_poll_to_poll_down_to_nothing() -> None:
    prefetch, seen = after(21), []
    for _ in range(6):
        prefetch.note_poll()
        seen.append(prefetch.wanted)
    assert seen == [20, 10, 5, 2, 1, 0]


def test_the_first_that_came_is_the_first_that_goes() -> None:
    prefetch = Prefetch(10)
    prefetch.add([[delivery("a")], [delivery("b")]], 0.0)
    prefetch.add([[delivery("c")]], 0.0)
    assert [post[0].id for _ in range(3) if (post := prefetch.take())] == ["a", "b", "c"]
    assert prefetch.take() is None


def test_there_is_capacity_for_those_too_that_will_go_while_the_poll_is_in_flight() -> None:
    prefetch = after(4)
    assert prefetch.capacity == prefetch.wanted == 6
    prefetch.add([[delivery(name)] for name in "abcdef"], 0.0)
    for _ in range(3):
        prefetch.take()
        prefetch.note_ended()
    prefetch.note_poll()
    assert prefetch.wanted == 4
    assert prefetch.capacity == 4 + 3 - 3
    for _ in range(9):
        prefetch.note_ended()
    prefetch.note_poll()
    assert prefetch.capacity == 16 + 3 - 3  # no more can go than are here


def test_it_is_time_for_a_poll_when_half_of_what_may_be_in_flight_has_ended_or_nothing_is_left() -> None:
    prefetch = after(4)
    assert prefetch.is_poll_due
    prefetch.add([[delivery(name)] for name in "abcdef"], 0.0)
    for _ in range(4):
        assert not prefetch.is_poll_due
        prefetch.note_ended()
    assert not prefetch.is_poll_due
    prefetch.note_ended()
    assert prefetch.is_poll_due


def test_what_has_waited_too_long_is_given_back_and_the_rest_stays() -> None:
    prefetch = Prefetch(10)
    prefetch.add([[delivery("old")]], 0.0)
    prefetch.add([[delivery("new")]], MAX_WAIT / 2)
    assert [each.id for each in prefetch.take_stale(MAX_WAIT)] == ["old"]
    assert [each.id for each in prefetch.take_all()] == ["new"]
    assert not prefetch
