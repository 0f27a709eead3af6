"""Which session goes next from one worker of ours to another."""

from __future__ import annotations

from hypothesis import given, strategies as st

from sessions.rebalancing import AT_ONCE, Held, Shift, busy, moved, to_balance, to_drain, worth
from sessions.records import WorkerRow

QUIET = 30.0


def row(name: str, sessions: int, capacity: int = 100, **more: object) -> WorkerRow:
    return WorkerRow(name, f"http://{name}", capacity, sessions, False, 5.0, **more)  # type: ignore[arg-type]


def held(name: str, idle: float = 100.0, state: str = "connected", **more: bool) -> Held:
    return Held(name, state, 1, idle, **({"leaving": False, "by_person": False} | more))


def fullest(*workers: WorkerRow) -> str | None:
    found = worth(workers)
    return found.worker if found else None


def test_it_is_worth_it_from_a_difference_on() -> None:
    assert fullest(row("a", 2), row("b", 0)) is None
    assert fullest(row("a", 3), row("b", 0)) == "a"
    assert fullest(row("a", 20), row("b", 16)) is None, "a fifth of 20"
    assert fullest(row("a", 20), row("b", 15)) == "a"


def test_nothing_goes_to_one_that_is_full_or_drains_or_that_is_not_ours() -> None:
    assert fullest(row("a", 20), row("b", 0, 0)) is None
    assert fullest(row("a", 20), row("b", 0, draining=True)) is None
    assert fullest(row("a", 20), row("b", 0, drains=1.0)) is None
    assert fullest(row("a", 20), row("b", 0, cpu=0.95)) is None
    assert fullest(row("a", 20), WorkerRow("b", "http://b", 50, 0, True, 5.0)) is None
    assert fullest(row("a", 20), WorkerRow("b", "http://b", 50, 0, False, 0.0)) is None
    assert fullest(WorkerRow("old", "http://old", 50, 40, True, 5.0), row("b", 0)) is None


def test_what_has_been_quiet_for_longest_goes_and_to_the_emptiest() -> None:
    workers = [row("a", 20), row("b", 5), row("c", 9)]
    sessions = [held("x", 40.0), held("y", 50.0), held("z", 45.0)]
    assert to_balance(workers[0], sessions, workers, QUIET) == Shift("y", "connected", 1, "a", "b", QUIET)


def test_nothing_goes_that_is_busy_or_paired_or_that_a_person_has_placed() -> None:
    workers = [row("a", 20), row("b", 5)]
    stay = [
        held("busy", 29.9),
        *(held(state, state=state) for state in ("qr_scanning", "authenticated", "starting", "created", "failed")),
        held("leaves", leaving=True),
        held("placed", by_person=True),
    ]
    assert to_balance(workers[0], stay, workers, QUIET) is None


def test_a_worker_that_drains_gives_on_a_few_at_a_time_and_the_quiet_ones_first() -> None:
    workers = [row("a", 4, drains=0.0), row("b", 5)]
    sessions = [held("x", 40.0), held("y", 50.0), held("z", 29.0), held("v", 45.0)]
    assert [one.session for one in to_drain(workers[0], sessions, workers, QUIET)] == ["y", "v"]
    on_its_way = [held("x", 40.0), held("y", 50.0, leaving=True)]
    assert [one.session for one in to_drain(workers[0], on_its_way, workers, QUIET)] == ["x"]


def test_a_worker_that_drains_for_longer_gives_on_what_nothing_is_being_asked_of_and_at_last_everything() -> None:
    sessions = [held("asked", 1.0), held("busy", 5.0), held("paired", 100.0, "qr_scanning")]

    def leave(age: float) -> list[str]:
        workers = [row("a", 4, drains=age), row("b", 5)]
        return [one.session for one in to_drain(workers[0], sessions, workers, QUIET)]

    assert leave(5.0) == []
    assert leave(15.0) == ["busy"]
    assert leave(30.0) == ["paired", "busy"]
    assert [one.session for one in to_drain(row("a", 1, drains=30.0), sessions[:1], [row("b", 1)], QUIET)] == ["asked"]


def test_what_finds_no_room_stays_though_its_worker_drains() -> None:
    workers = [row("a", 4, drains=100.0), row("b", 9, 10)]
    assert len(list(to_drain(workers[0], [held("x"), held("y")], workers, QUIET))) == 1


def test_busy_is_what_something_is_being_asked_of_or_what_is_paired() -> None:
    assert busy([held("a", 1.0), held("b", 10.0), held("c", 100.0, "qr_scanning")]) == 2


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=8))
def test_it_ends_and_nothing_goes_back(fleet: list[tuple[int, int]]) -> None:
    workers = [row(f"w{i}", min(sessions, capacity), capacity) for i, (sessions, capacity) in enumerate(fleet)]
    there = {one.worker: [held(f"{one.worker}-{i}") for i in range(one.sessions)] for one in workers}
    homes: dict[str, set[str]] = {}
    for _ in range(1000):
        origin = worth(workers)
        if origin is None:
            break
        shift = to_balance(origin, there[origin.worker], workers, QUIET)
        assert shift is not None
        assert shift.to not in homes.setdefault(shift.session, {origin.worker}), "it comes back"
        homes[shift.session].add(shift.to)
        session = next(one for one in there[origin.worker] if one.session == shift.session)
        there[origin.worker].remove(session)
        there[shift.to].append(session)
        workers = moved(workers, shift)
        assert all(one.sessions <= one.capacity for one in workers)
    else:
        raise AssertionError("it does not end")


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0, 200))
def test_a_drain_never_stops_more_than_a_few_at_a_time(sessions: int, room: int, age: float) -> None:
    workers = [row("a", sessions, drains=age), row("b", 0, room)]
    found = list(to_drain(workers[0], [held(f"s{i}") for i in range(sessions)], workers, QUIET))
    assert len(found) == min(sessions, room, AT_ONCE)
