from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from sessions import reconciler
from sessions.reconciler import Reconciler
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Browsers:
    """Start and stop when they are told to, and remember how many started at once."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.starting: set[str] = set()
        self.running: dict[str, int] = {}
        self.peak = 0

    async def start(self, session: str, fence: int) -> None:
        self.starting.add(session)
        self.peak = max(self.peak, len(self.starting))
        try:
            await self.gates.setdefault(session, asyncio.Event()).wait()
        finally:
            self.starting.discard(session)
        self.running[session] = fence

    async def stop(self, session: str) -> None:
        del self.running[session]

    def open(self, *sessions: str) -> None:
        for session in sessions:
            self.gates.setdefault(session, asyncio.Event()).set()


def given(count: int) -> Mapping[str, int]:
    return {f"s{i}": i + 1 for i in range(count)}


async def test_at_most_so_many_sessions_start_at_once() -> None:
    browsers = Browsers()
    sessions = Reconciler("w1", browsers.start, browsers.stop, 2)
    sessions.run_exactly(given(5))
    await until(lambda: len(browsers.starting) == 2)
    await asyncio.sleep(0.05)
    assert set(sessions.pending) == set(given(5)), "all of them are on their way"
    browsers.open("s0")
    await until(lambda: set(browsers.starting) == {"s1", "s2"})
    browsers.open("s1", "s2", "s3", "s4")
    await until(lambda: browsers.running == given(5))
    assert browsers.peak == 2
    assert sessions.running == given(5)
    assert sessions.pending == {}


async def test_a_session_that_is_taken_away_while_it_waits_is_neither_started_nor_stopped() -> None:
    browsers = Browsers()
    sessions = Reconciler("w1", browsers.start, browsers.stop, 1)
    sessions.run_exactly(given(3))
    await until(lambda: browsers.starting == {"s0"})
    sessions.run_exactly({"s0": 1, "s2": 3})
    browsers.open("s0", "s1", "s2")
    await until(lambda: browsers.running == {"s0": 1, "s2": 3})
    assert "s1" not in sessions.running


async def test_a_session_that_is_taken_away_while_it_starts_is_stopped_after_that() -> None:
    browsers = Browsers()
    sessions = Reconciler("w1", browsers.start, browsers.stop, 1)
    sessions.run_exactly(given(1))
    await until(lambda: browsers.starting == {"s0"})
    sessions.end("s0")
    assert sessions.fence_of("s0") is None
    browsers.open("s0")
    assert await sessions.settled(5.0) or await sessions.settled(5.0)
    await until(lambda: not sessions.running)
    assert browsers.running == {}


async def test_what_is_being_started_keeps_its_fence_until_it_was_stopped() -> None:
    browsers = Browsers()
    sessions = Reconciler("w1", browsers.start, browsers.stop, 1)
    sessions.run_exactly({"s0": 1})
    await until(lambda: browsers.starting == {"s0"})
    sessions.run_exactly({"s0": 7, "s1": 8})
    assert sessions.pending == {"s0": 1, "s1": 8}
    browsers.open("s0", "s1")
    await until(lambda: browsers.running == {"s0": 7, "s1": 8})


async def test_under_another_fence_it_is_stopped_first() -> None:
    browsers = Browsers()
    browsers.open("s0")
    sessions = Reconciler("w1", browsers.start, browsers.stop, 1)
    sessions.run_exactly({"s0": 1})
    await until(lambda: browsers.running == {"s0": 1})
    sessions.run_exactly({"s0": 7})
    assert sessions.fence_of("s0") is None
    await until(lambda: browsers.running == {"s0": 7})
    assert sessions.fence_of("s0") == 7


async def test_a_start_that_hangs_does_not_keep_the_others_waiting_for_ever(
    monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    monkeypatch.setattr(reconciler, "_START_WITHIN", 0.1)
    browsers = Browsers()
    browsers.open("s1")
    sessions = Reconciler("w1", browsers.start, browsers.stop, 1)
    sessions.run_exactly(given(2))
    await until(lambda: browsers.running == {"s1": 2})
    assert "session.start_takes_long" in heard.messages()
    browsers.open("s0")
    await until(lambda: browsers.running == given(2))
