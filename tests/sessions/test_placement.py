from __future__ import annotations

from random import Random

from hypothesis import given, strategies as st

from sessions.placement import Load, choose, share

names = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


@st.composite
def fleets(draw: st.DrawFn) -> list[Load]:
    capacities = st.integers(0, 12)
    fleet = []
    for name in draw(names):
        capacity = draw(capacities)
        fleet.append(Load(name, "i", draw(st.integers(0, capacity)), capacity))
    return fleet


sessions = st.integers(0, 40).map(lambda n: [f"s{i}" for i in range(n)])


def shares(fleet: list[Load], orphans: list[str]) -> dict[str, list[str]]:
    return {worker.worker: share(fleet, orphans, worker.worker) for worker in fleet}


@given(fleets(), sessions)
def test_no_worker_adopts_more_than_it_has_capacity_for(fleet: list[Load], orphans: list[str]) -> None:
    for worker in fleet:
        assert worker.load + len(share(fleet, orphans, worker.worker, waited=orphans[:1])) <= worker.capacity


@given(fleets(), sessions)
def test_each_orphan_goes_to_one_worker_and_none_waits_while_there_is_capacity(
    fleet: list[Load], orphans: list[str]
) -> None:
    adopted = [session for mine in shares(fleet, orphans).values() for session in mine]
    free = sum(worker.capacity - worker.load for worker in fleet)
    assert sorted(adopted) == sorted(orphans[:free])


@given(names, sessions)
def test_workers_that_start_empty_end_up_within_one_of_each_other(workers: list[str], orphans: list[str]) -> None:
    fleet = [Load(name, "i", 0, 1000) for name in workers]
    counts = [len(mine) for mine in shares(fleet, orphans).values()]
    assert max(counts) - min(counts) <= 1


@given(fleets(), sessions)
def test_whoever_adopts_is_at_most_one_above_any_other_that_still_has_capacity(
    fleet: list[Load], orphans: list[str]
) -> None:
    after = {worker.worker: worker.load + len(share(fleet, orphans, worker.worker)) for worker in fleet}
    loads = {worker.worker: worker for worker in fleet}
    for adopter, load in after.items():
        for other, capacity in ((name, loads[name].capacity) for name in after):
            if load > loads[adopter].load and after[other] < capacity:
                assert load <= after[other] + 1


def test_an_orphan_that_waited_too_long_is_taken_out_of_turn() -> None:
    fleet = [Load("idle", "i", 0, 5), Load("busy", "i", 4, 5)]
    assert share(fleet, ["s"], "busy") == []
    assert share(fleet, ["s"], "busy", waited=["s"]) == ["s"]


@given(fleets(), sessions, st.randoms())
def test_the_decision_does_not_depend_on_the_order_of_the_workers(
    fleet: list[Load], orphans: list[str], random: Random
) -> None:
    shuffled = list(fleet)
    random.shuffle(shuffled)
    assert shares(fleet, orphans) == shares(shuffled, orphans)
    assert [choose(fleet, session) for session in orphans] == [choose(shuffled, session) for session in orphans]


@given(fleets(), st.text(min_size=1))
def test_a_new_session_goes_to_the_least_loaded_worker_with_capacity(fleet: list[Load], session: str) -> None:
    free = [worker for worker in fleet if worker.load < worker.capacity]
    chosen = choose(fleet, session)
    assert chosen is None if not free else chosen in free and chosen.load == min(worker.load for worker in free)


def test_among_equals_a_session_moves_only_when_its_own_worker_goes() -> None:
    fleet = [Load(name, "i", 0, 5) for name in ("a", "b", "c")]
    for session in (f"s{i}" for i in range(50)):
        before = choose(fleet, session)
        without_c = choose(fleet[:2], session)
        assert before is not None
        assert before.worker == "c" or without_c == before
