"""How many sessions a worker offers where the policies do not say."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from sessions.load import Memory
from sessions.worker.browser.capacity import MOST, Capacity, capacity, each
from sluice.process.memory import private_memory, proportional_memory
from tests.waiting import until

pytestmark = pytest.mark.anyio
GIB, MIB = 2**30, 2**20


def test_what_nobody_has_measured_takes_as_much_as_the_real_page_does() -> None:
    assert each([]) == 400 * MIB
    assert capacity([Memory(24 * GIB, 20 * GIB)], [], 0) == 45  # 17.6 GiB, as a tenth of all stays free


@pytest.mark.parametrize(("taken", "expected"), [(60 * MIB, 116), (350 * MIB, 358), (800 * MIB, 733)])
def test_what_is_measured_counts_the_more_the_more_sessions_run(taken: int, expected: int) -> None:
    assert each([taken] * 20) // MIB == expected
    assert abs(each([taken] * 2) - 400 * MIB) < abs(each([taken] * 20) - 400 * MIB)


def test_those_that_run_already_are_among_them() -> None:
    free = [Memory(24 * GIB, 12 * GIB)]
    assert capacity(free, [400 * MIB] * 10, 10) == 10 + 24
    assert capacity(free, [400 * MIB] * 10, 12) == 12 + 24


def test_a_container_with_less_memory_than_its_machine_binds() -> None:
    assert capacity([Memory(64 * GIB, 60 * GIB), Memory(4 * GIB, 4 * GIB)], [], 0) == 9


@pytest.mark.parametrize("opened", [0, 1, 7])
def test_it_is_one_at_least_and_never_less_than_run_already(opened: int) -> None:
    assert capacity([Memory(GIB, GIB // 20)], [], opened) == max(1, opened)


def test_one_worker_takes_no_more_than_its_driver_bears() -> None:
    assert capacity([Memory(900 * GIB, 900 * GIB)], [], 0) == MOST
    assert capacity([Memory(900 * GIB, 900 * GIB)], [], MOST + 3) == MOST + 3


def test_where_the_system_does_not_tell_it_is_as_many_as_elsewhere() -> None:
    assert capacity([], [], 3) == 25


@dataclass
class Session:
    state: str
    pid: int


async def test_only_connected_sessions_are_measured_and_all_that_are_open_count() -> None:
    sessions = [Session("connected", os.getpid()), Session("qr_scanning", os.getpid()), Session("starting", 0)]
    found = Capacity(lambda: sessions)
    async with found.measuring():
        await until(lambda: found._taken)
        assert len(found._taken) == 1
        assert found._taken[0] > MIB
        assert 2 <= found() <= MOST


def test_what_a_process_takes_is_what_it_has_to_itself_and_its_part_of_the_rest() -> None:
    own = os.getpid()
    assert private_memory([own]) * 0.8 < proportional_memory([own]) < private_memory([own]) + 200 * MIB
    assert proportional_memory([2**22 - 1]) == 0
