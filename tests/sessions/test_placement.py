from __future__ import annotations

from random import Random

from hypothesis import given, strategies as st

from sessions.placement import AT_ONCE, Candidate, Orphan, choose, share

names = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


@st.composite
def fleets(draw: st.DrawFn) -> list[Candidate]:
    capacities = st.integers(0, 12)
    fleet = []
    for name in draw(names):
        capacity = draw(capacities)
        fleet.append(Candidate(name, "i", draw(st.integers(0, capacity)), capacity))
    return fleet


sessions = st.integers(0, 40).map(lambda n: [Orphan(f"s{i}", f"w{i % 3}") for i in range(n)])


@given(fleets(), sessions)
def test_no_worker_gets_more_than_it_has_room_for_nor_more_than_a_round_allows(
    fleet: list[Candidate], orphans: list[Orphan]
) -> None:
    chosen = [one.worker for one in share(fleet, orphans, {}).values()]
    for worker in fleet:
        assert chosen.count(worker.worker) <= min(AT_ONCE, worker.capacity - worker.taken)


@given(fleets(), sessions)
def test_none_waits_for_another_round_while_there_is_room_in_this_one(
    fleet: list[Candidate], orphans: list[Orphan]
) -> None:
    room = sum(min(AT_ONCE, worker.capacity - worker.taken) for worker in fleet)
    assert list(share(fleet, orphans, {})) == [orphan.session for orphan in orphans[:room]]


@given(names, sessions)
def test_workers_that_start_empty_end_up_within_two_of_each_other(workers: list[str], orphans: list[Orphan]) -> None:
    fleet = [Candidate(name, "i", 0, 1000) for name in workers]
    chosen = [one.worker for one in share(fleet, orphans, {}).values()]
    counts = [chosen.count(name) for name in workers]
    assert max(counts) - min(counts) <= 2


@given(fleets(), sessions)
def test_whoever_gets_one_is_at_most_two_above_any_other_that_still_has_room(
    fleet: list[Candidate], orphans: list[Orphan]
) -> None:
    chosen = [one.worker for one in share(fleet, orphans, {}).values()]
    for one in fleet:
        for other in fleet:
            after, others = one.taken + chosen.count(one.worker), other.taken + chosen.count(other.worker)
            has_room = others < other.capacity and chosen.count(other.worker) < AT_ONCE
            if chosen.count(one.worker) and has_room:
                assert after <= others + 2


def test_the_sessions_of_a_workspace_are_spread_over_the_workers() -> None:
    fleet = [Candidate(name, "i", 0, 100) for name in "abcd"]
    orphans = [Orphan(f"s{i}", f"w{i % 5}") for i in range(20)]
    chosen = share(fleet, orphans, {})
    for workspace in range(5):
        assert len({chosen[f"s{i}"].worker for i in range(workspace, 20, 5)}) == 4


def test_what_runs_already_counts_for_the_spread() -> None:
    fleet = [Candidate("a", "i", 4, 9), Candidate("b", "i", 5, 9)]
    chosen = share(fleet, [Orphan("s", "w")], {("a", "w"): 2, ("b", "other"): 3})
    assert chosen["s"].worker == "b"


def test_load_counts_for_more_than_the_spread() -> None:
    assert choose([Candidate("a", "i", 2, 9, alike=2), Candidate("b", "i", 7, 9, alike=0)], "s") == Candidate(
        "a", "i", 2, 9, alike=2
    )


def test_a_worker_that_could_not_stop_a_session_is_the_last_to_get_it() -> None:
    idle, busy = Candidate("idle", "i", 0, 5), Candidate("busy", "i", 4, 5)
    assert choose([idle, busy], "s", avoid="idle") == busy
    assert choose([idle], "s", avoid="idle") == idle


@given(fleets(), sessions, st.randoms())
def test_the_decision_does_not_depend_on_the_order_of_the_workers(
    fleet: list[Candidate], orphans: list[Orphan], random: Random
) -> None:
    shuffled = list(fleet)
    random.shuffle(shuffled)
    assert share(fleet, orphans, {}) == share(shuffled, orphans, {})


@given(fleets(), st.text(min_size=1))
def test_a_new_session_goes_to_the_least_loaded_worker_with_room(fleet: list[Candidate], session: str) -> None:
    free = [worker for worker in fleet if worker.taken < worker.capacity]
    chosen = choose(fleet, session)
    assert chosen is None if not free else chosen in free and chosen.taken == min(worker.taken for worker in free)


def test_among_equals_a_session_moves_only_when_its_own_worker_goes() -> None:
    fleet = [Candidate(name, "i", 0, 5) for name in ("a", "b", "c")]
    for session in (f"s{i}" for i in range(50)):
        before = choose(fleet, session)
        without_c = choose(fleet[:2], session)
        assert before is not None
        assert before.worker == "c" or without_c == before
