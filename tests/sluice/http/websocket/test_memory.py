from __future__ import annotations

import asyncio

import pytest

from sluice.http.websocket import memory
from sluice.http.websocket.memory import FREE, Held
from tests.waiting import until

pytestmark = pytest.mark.anyio

LIMIT = 8 * FREE


class Side:
    """One direction of a connection that has come to hold so many bytes."""

    def __init__(self, size: int = 0, limit: int = LIMIT) -> None:
        self.looked = 0
        self.cut = False
        self.held = Held(limit, self._go_on, self._cut)
        self.held.add(size)

    def _go_on(self) -> None:
        self.looked += 1

    def _cut(self) -> None:
        self.cut = True


async def test_all_go_on_while_there_is_room() -> None:
    sides = [Side(FREE + 1) for _ in range(3)]
    assert all(side.held.may_go_on() for side in sides)


async def test_beyond_it_only_the_first_in_line_and_small_messages_go_on() -> None:
    first, second, third, small = Side(2 * FREE), Side(2 * FREE), Side(FREE + 1), Side(FREE)
    assert [side.held.may_go_on() for side in (first, second, third, small)] == [True, False, False, True]
    assert [side.held.may_go_on() for side in (third, first, second)] == [False, True, False]


async def test_the_next_in_line_goes_on_when_the_first_is_done_or_gone() -> None:
    first, second, third = Side(2 * FREE), Side(2 * FREE), Side(4 * FREE)
    assert [side.held.may_go_on() for side in (first, second, third)] == [True, False, False]
    third.held.add(2 * FREE)
    first.held.give_back(2 * FREE)
    assert (second.looked, third.looked) == (1, 0)
    assert [side.held.may_go_on() for side in (second, third)] == [True, False]
    second.held.add(2 * FREE)
    third.held.add(FREE)
    second.held.close()
    assert third.looked == 1
    assert third.held.may_go_on()


async def test_everybody_looks_again_when_there_is_room() -> None:
    first, second, third = Side(4 * FREE), Side(2 * FREE), Side(2 * FREE)
    assert [side.held.may_go_on() for side in (first, second, third)] == [True, False, False]
    first.held.give_back(4 * FREE)
    assert (second.looked, third.looked) == (1, 1)
    assert second.held.may_go_on()
    assert third.held.may_go_on()


async def test_who_gets_no_further_while_memory_is_full_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FURTHER_WITHIN", 0.05)
    stuck, small, ended = Side(4 * FREE), Side(FREE), Side(2 * FREE)
    ended.held.close()
    other = Side(2 * FREE)
    await until(lambda: stuck.cut)
    stuck.held.close()
    assert (small.cut, ended.cut) == (False, False)
    assert other.held.may_go_on()


async def test_nobody_is_cut_while_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "FURTHER_WITHIN", 0.02)
    side = Side(2 * FREE)
    await asyncio.sleep(0.1)
    assert not side.cut
    side.held.close()


async def test_what_is_passed_on_after_the_end_is_not_given_back_twice() -> None:
    gone, full = Side(2 * FREE), Side(LIMIT)
    assert [side.held.may_go_on() for side in (full, gone)] == [True, False]
    gone.held.close()
    gone.held.give_back(2 * FREE)
    full.held.close()
    full.held.give_back(LIMIT)
    one, other = Side(2 * FREE), Side(2 * FREE)
    assert [side.held.may_go_on() for side in (one, other)] == [True, True], "there is room for both, just"
    third = Side(FREE + 1)
    assert [side.held.may_go_on() for side in (one, third)] == [True, False]
