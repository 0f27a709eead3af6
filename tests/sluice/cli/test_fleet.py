"""How many workers `sluice up --workers 2..8` runs, and which."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Mapping

import pytest
from hypothesis import given, strategies as st

from sessions.records import WorkerRow
from sessions.registry import Registry
from sessions.scaling import Demand, Wanted
from sessions.shifting import Decision
from sluice.cli.fleet import Fleet, Step, WorkerCount, next_step
from sluice.process.loops import Stop
from sluice.process.supervisor import Program, Supervisor
from sluice.store.client import Store
from tests.sessions.making import beat, register, run
from tests.waiting import until

COUNT = WorkerCount(2, 4)
STAYS, DRAINS = False, True


def row(name: str, sessions: int = 0, *, drains: float | None = None, left: float = 5.0) -> WorkerRow:
    return WorkerRow(name, "http://w", 10, sessions, False, left, drains=drains)


def step(
    wanted: int,
    running: Mapping[str, bool],
    *rows: WorkerRow,
    ending: Collection[str] = (),
    busy_at: Mapping[str, int] | None = None,
) -> Step | None:
    return next_step(COUNT, wanted, running, ending, {one.worker: one for one in rows}, busy_at or {})


BOTH = {"demo-1": STAYS, "demo-2": STAYS}


def test_at_least_and_at_most_so_many_run() -> None:
    assert step(0, {}) == Step("start", "demo-1")
    assert step(0, BOTH) is None
    assert step(99, BOTH | {"demo-3": STAYS, "demo-4": STAYS}) is None


def test_a_name_is_not_used_while_its_lease_lives_or_its_process_ends() -> None:
    assert step(3, BOTH, row("demo-3")) == Step("start", "demo-4")
    assert step(3, BOTH, row("demo-3", left=0.0)) == Step("start", "demo-3")
    assert step(3, BOTH, ending=["demo-3"]) == Step("start", "demo-4")


def test_one_that_drains_is_taken_back_before_another_is_started() -> None:
    running = BOTH | {"demo-3": DRAINS, "demo-4": DRAINS}
    rows = (row("demo-3", 1, drains=5.0), row("demo-4", 3, drains=5.0))
    assert step(3, running, *rows) == Step("take back", "demo-4"), "which has more to lose"
    lost = row("demo-3", left=0.0, drains=5.0)
    assert step(3, BOTH | {"demo-3": DRAINS}, lost) == Step("start", "demo-4"), "that one cannot be taken back"


def test_the_emptiest_drains_and_none_with_a_busy_session_where_another_will_do() -> None:
    running = BOTH | {"demo-3": STAYS}
    rows = (row("demo-1", 3), row("demo-2", 5), row("demo-3", 1))
    assert step(2, running, *rows) == Step("drain", "demo-3")
    assert step(2, running, *rows, busy_at={"demo-3": 1}) == Step("drain", "demo-1")
    assert step(2, running, *rows, busy_at={"demo-1": 1, "demo-2": 2, "demo-3": 1}) == Step("drain", "demo-3")
    assert step(2, running, row("demo-1"), row("demo-2"), row("demo-3")) == Step("drain", "demo-3"), "the latest"


def test_one_is_stopped_only_when_it_has_no_session() -> None:
    running = BOTH | {"demo-3": DRAINS}
    assert step(2, running, row("demo-3", 1, drains=5.0)) is None
    assert step(2, running, row("demo-3", drains=5.0)) == Step("stop", "demo-3")


def test_one_that_was_killed_while_it_drained_is_to_drain_again_or_is_stopped() -> None:
    running = BOTH | {"demo-3": DRAINS}
    assert step(2, running, row("demo-3")) == Step("drain", "demo-3"), "it lives again, and was forgotten to drain"
    assert step(2, running, row("demo-3", 2, drains=5.0, left=0.0)) == Step("stop", "demo-3")
    assert step(2, running) == Step("stop", "demo-3")


def test_one_that_a_person_has_drain_is_left_alone_and_another_takes_its_place() -> None:
    emptied = row("demo-1", 1, drains=5.0)
    assert step(2, BOTH, emptied, row("demo-2")) == Step("start", "demo-3"), "it is none of the two that are wanted"
    three = BOTH | {"demo-3": STAYS}
    assert step(2, three, emptied, row("demo-2"), row("demo-3")) is None, "and is not taken back"
    assert step(2, three, row("demo-1", drains=9.0), row("demo-2"), row("demo-3")) is None, (
        "nor stopped when it is empty"
    )
    assert step(2, three, row("demo-1"), row("demo-2"), row("demo-3")) == Step("drain", "demo-3"), "he took it back"


def test_never_more_run_than_allowed_beside_those_that_a_person_has_drain() -> None:
    four = BOTH | {"demo-3": STAYS, "demo-4": STAYS}
    rows = [row(name, 1, drains=5.0 if name == "demo-1" else None) for name in four]
    assert step(9, four, *rows) is None
    assert step(9, four, row("demo-1", drains=5.0, left=0.0), *rows[1:]) is None, "a lost one is started again"


@given(st.integers(0, 200), st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=8))
def test_it_comes_to_rest_with_as_many_as_are_wanted(wanted: int, fleet: list[tuple[bool, int]]) -> None:
    running = {f"demo-{i}": drains for i, (drains, _) in enumerate(fleet, 1)}
    rows = {
        f"demo-{i}": row(f"demo-{i}", sessions, drains=1.0 if drains else None)
        for i, (drains, sessions) in enumerate(fleet, 1)
    }
    for _ in range(100):
        found = next_step(COUNT, wanted, running, (), rows, {})
        if found is None:
            break
        match found.does:
            case "start":
                assert found.worker not in running
                running[found.worker], rows[found.worker] = False, row(found.worker)
            case "stop":
                assert rows[found.worker].sessions == 0, "nothing is lost"
                del running[found.worker], rows[found.worker]
            case does:
                drains = does == "drain"
                running[found.worker] = drains
                rows[found.worker] = row(found.worker, rows[found.worker].sessions, drains=1.0 if drains else None)
    else:
        raise AssertionError("it does not come to rest")
    assert sum(not drains for drains in running.values()) == max(2, min(4, wanted))


class Scene:
    """A fleet whose processes sleep; who registers as its workers is the test."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.said: list[str] = []
        self.ended: list[int] = []
        self.supervisor = Supervisor([], self.said.append)
        self.fleet = Fleet(COUNT, registry, self.supervisor, self._program, self.said.append)

    def _program(self, name: str) -> Program:
        return Program(name, [sys.executable, "-c", "import time; time.sleep(60)"], {}, ended=self.ended.append)

    async def wanted(self, workers: int, sessions: int) -> None:
        seen = await self.registry.scaling()
        await self.registry.decide(seen, Decision(Wanted(workers), Demand(sessions, 0, 0, 10.0, 2, False)))


@pytest.fixture
async def scene(store: Store) -> AsyncIterator[Scene]:
    scene = Scene(Registry(store, 60.0))
    yield scene
    await scene.supervisor.stop()


@pytest.mark.anyio
async def test_it_says_what_it_does_and_stops_only_what_is_empty(scene: Scene) -> None:
    registry, fleet, said = scene.registry, scene.fleet, scene.said
    await fleet.run_once()
    assert said == ["demo-1 is started (the least)", "demo-2 is started (the least)"]
    await register(registry, "demo-1")
    await run(registry, "demo-1", "s", "t")
    await scene.wanted(3, 25)
    await fleet.run_once()
    assert said[2:] == ["demo-3 is started (3 wanted for 25 sessions)"]
    assert (await registry.scaling()).grows, "demo-3 is not there yet"
    await register(registry, "demo-2", "demo-3")
    await scene.wanted(9, 80)
    await fleet.run_once()
    assert said[3:] == [
        "more workers are wanted than --workers 2..4 allows (9 wanted for 80 sessions)",
        "demo-4 is started (9 wanted for 80 sessions)",
    ]
    await register(registry, "demo-4")
    await fleet.run_once()
    assert not (await registry.scaling()).grows, "there are as many as may be"
    await scene.wanted(2, 2)
    await fleet.run_once()
    assert said[5:] == [
        "demo-4 drains (2 wanted for 2 sessions)",
        "demo-3 drains (2 wanted for 2 sessions)",
        "demo-3 has no session any more and is stopped",
        "demo-4 has no session any more and is stopped",
    ]
    await until(lambda: len(scene.ended) == 2)


@pytest.mark.anyio
async def test_one_with_sessions_drains_until_it_has_none_and_may_be_taken_back(scene: Scene) -> None:
    registry, fleet, said = scene.registry, scene.fleet, scene.said
    await scene.wanted(3, 30)
    await fleet.run_once()
    for name in ("demo-1", "demo-2", "demo-3"):
        await register(registry, name, capacity=1)
        await run(registry, name, f"of {name}")
    await scene.wanted(2, 3)
    said.clear()
    await fleet.run_once()
    assert said == ["demo-3 drains (2 wanted for 3 sessions); its 1 session goes to others"]
    await fleet.run_once()
    assert len(said) == 1
    await scene.wanted(3, 30)
    await fleet.run_once()
    assert said[1:] == ["demo-3 is taken back and drains no more (3 wanted for 30 sessions)"]
    assert {one.worker: one.drains for one in await registry.workers()}["demo-3"] is None
    held = await beat(registry, "demo-3")
    assert list(held) == ["of demo-3"]


@pytest.mark.anyio
async def test_what_a_person_has_drain_is_said_and_followed_by_another_until_it_is_taken_back(scene: Scene) -> None:
    registry, fleet, said = scene.registry, scene.fleet, scene.said
    await fleet.run_once()
    await register(registry, "demo-1", "demo-2")
    said.clear()
    await registry.drain("demo-1")
    await fleet.run_once()
    await register(registry, "demo-3")
    await fleet.run_once()
    assert said == [
        "demo-1 drains, as a person wants it to: it runs until sluice workers take-back demo-1",
        "demo-3 is started (the least)",
    ]
    assert (await registry.scaling()).most == 3, "of the four one does not count"
    await registry.take_back("demo-1")
    await fleet.run_once()
    assert said[2:] == [
        "demo-1 does not drain any more",
        "demo-3 drains (the least)",
        "demo-3 has no session any more and is stopped",
    ]


@pytest.mark.anyio
async def test_of_sluice_up_on_several_machines_each_says_how_many_it_may_start(scene: Scene) -> None:
    await scene.fleet.run_once()
    await scene.registry.will_grow("other", 0.0, 8, 60.0)
    seen = await scene.registry.scaling()
    assert (seen.most, seen.grows) == (4 + 8, True), "the one that may start more is not forgotten for the other"
    await scene.registry.will_grow("other", 0.0, 8, 0.0)
    assert (await scene.registry.scaling()).most == 4


@pytest.mark.anyio
async def test_while_the_store_is_away_everything_stays_as_it_is(scene: Scene) -> None:
    away = Store("unix:///nowhere.sock", timeout=0.1)
    fleet = Fleet(
        COUNT, Registry(away, 60.0), scene.supervisor, lambda name: Program(name, ["false"]), scene.said.append
    )
    stop = Stop()
    running = asyncio.create_task(fleet.run(stop))
    await asyncio.sleep(0.3)
    assert scene.said == []
    assert not running.done()
    stop.request()
    await running
    await away.close()
