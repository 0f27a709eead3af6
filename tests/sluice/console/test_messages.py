from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sluice.console.actions.circuits import AnswersOfEndpoint, CircuitOfEndpoint
from sluice.console.messages import age, messages
from sluice.console.status import (
    ClockJump,
    EndpointStatus,
    Lately,
    PoliciesStatus,
    PolicyProblem,
    RemovedEndpoint,
    RequestCounts,
    SessionCounts,
    Status,
    StoreStatus,
    Traffic,
    WorkerStatus,
)
from tests.sluice.console.saying import circuit, endpoint


def worker(name: str = "w1", **more: Any) -> WorkerStatus:
    return replace(WorkerStatus(name, "http://127.0.0.1:3101", False, 25, 25, False, 2.0, 13.0), **more)


def lost(name: str = "w2", **more: Any) -> WorkerStatus:
    return worker(name, **({"lost": True, "last_beat_s": None, "beat_left_s": 0.0} | more))


def said(
    *workers: WorkerStatus,
    unowned: int = 0,
    problems: Sequence[PolicyProblem] = (),
    needs_restart: Sequence[str] = (),
    removed: Sequence[RemovedEndpoint] = (),
    clock_jump: ClockJump | None = None,
    **endpoints: EndpointStatus,
) -> list[str]:
    now = datetime.now(UTC)
    said = messages(
        Status(
            at=now,
            revision="5e1f00d5e1f0",
            policies=PoliciesStatus("policies.yaml", now, tuple(problems), tuple(needs_restart)),
            promise="second",
            store=StoreStatus(True, None),
            clock_jump=clock_jump,
            relays=1,
            traffic=Traffic(RequestCounts(0, {}), {}, {}, {}),
            endpoints=endpoints,
            removed=tuple(removed),
            workers=workers,
            sessions=SessionCounts(50, 50, {}, unowned),
        )
    )
    return [sentence for _, sentence in said]


def test_all_well_says_nothing() -> None:
    assert said(worker(), laravel=endpoint(waiting=3, oldest_due_s=2.0)) == []


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (
            circuit("half-open", 0.0, "timed out"),
            "laravel: the circuit is half-open (timed out): a few probes go through; 1 event waits, nothing is lost",
        ),
        (
            circuit("open"),
            "laravel: the circuit is open until the next probe; 1 event waits, nothing is lost; try it now: "
            "sluice circuit probe laravel",
        ),
        (
            circuit("open", 200.0, "answered 500"),
            "laravel: the circuit is open for 3m 20s more (answered 500); 1 event waits, nothing is lost; try it now: "
            "sluice circuit probe laravel",
        ),
    ],
)
def test_a_circuit_that_is_not_closed(seen: CircuitOfEndpoint, sentence: str) -> None:
    assert said(laravel=endpoint(circuit=seen, waiting=1, oldest_due_s=99.0)) == [sentence]


SKIP = "if it is for an event of theirs, see sluice queue list --endpoint laravel, and skip it"


@pytest.mark.parametrize(
    ("sessions", "more"),
    [
        (3, ""),
        (
            2,
            f"; only 2 sessions fail: {SKIP}",
        ),
        (
            1,
            f"; only 1 session fails: {SKIP}",
        ),
    ],
)
def test_a_circuit_says_since_when_nobody_gets_through_and_what_the_answers_are(sessions: int, more: str) -> None:
    now = datetime.now(UTC)
    long_ago, since = now - timedelta(days=1), now - timedelta(minutes=12)
    answers = (
        AnswersOfEndpoint(502, 3, long_ago, long_ago),
        AnswersOfEndpoint(500, 120, since, now),
        AnswersOfEndpoint(None, 2, since, now),
        AnswersOfEndpoint(401, 3, since, now),
    )
    seen = replace(
        circuit("half-open", 0.0, "answered 401"), failing_since=since, failing_sessions=sessions, answers=answers
    )
    assert said(laravel=endpoint(circuit=seen, waiting=1)) == [
        "laravel: the circuit is half-open (answered 401): a few probes go through; 1 event waits, nothing is lost; "
        f"nobody has got through for 12m: 500 x 120, then no answer x 2, then 401 x 3{more}"
    ]


def test_events_that_are_late_name_the_rate_that_holds_them() -> None:
    assert said(laravel=endpoint(waiting=40, oldest_due_s=75.0, rate=1000 / 60)) == [
        "laravel: 40 events wait, the oldest for 1m 15s; the endpoint's rate lets 16.7 a second through"
    ]
    assert said(laravel=endpoint(waiting=1, oldest_due_s=10.0)) == ["laravel: 1 event waits, the oldest for 10s"]


def test_what_a_full_backlog_has_turned_away_is_told_with_since_when_and_the_cure() -> None:
    lately = Lately(37, 11_400.0, 120.0)
    when = "in the last 3h 10m, the newest 2m ago"
    assert said(crm=endpoint(refused=lately)) == [
        f"crm: 37 events were refused {when}, as the backlog was full: deliver faster, or raise relay.backlog"
    ]
    assert said(crm=endpoint(left_out=lately)) == [
        f"crm: 37 events were left out {when}, as the backlog was full: they come when their senders repeat them; "
        "raise relay.backlog, or have them refused: relay.endpoints.crm.required: true"
    ]
    assert said(crm=endpoint(dead_dropped=Lately(1, 5.0, 5.0))) == [
        "crm: 1 dead letter was dropped in the last 5s, the newest 5s ago, the oldest of too many: replay those that "
        "are left, sluice dead list, or raise relay.retention.dead_events and dead_bytes"
    ]
    assert said(crm=endpoint(bodies_dropped=lately)) == [
        f"crm: the bodies of 37 delivered events were dropped early {when}, as there were too many bytes, so they "
        "cannot be sent once more: raise relay.retention.bodies_bytes, or keep them for less long (bodies)"
    ]


def test_a_backlog_that_fills_up_by_number_or_by_bytes() -> None:
    sentence = (
        "laravel: the backlog is 85% full; at 100% events are refused, or leave this endpoint out (relay.backlog)"
    )
    assert said(laravel=endpoint(waiting=850)) == [sentence]
    assert said(laravel=endpoint(bytes=850)) == [sentence]


def test_a_worker_that_is_late_names_when_its_sessions_move() -> None:
    assert said(worker("w2", last_beat_s=9.0, beat_left_s=6.0)) == [
        "worker w2 has not beaten for 9s; its 25 sessions move when its lease ends in 6s"
    ]


def test_sessions_of_a_lost_worker_are_told_once_and_where_they_go() -> None:
    assert said(worker(), lost(), unowned=25) == [
        "worker w2 is lost; its 25 sessions have no worker; no worker has free capacity, "
        "start one more of yours (docs/workers.md)"
    ]
    assert said(worker(capacity=60), lost(sessions=1), unowned=1) == [
        "worker w2 is lost; its 1 session has no worker; a worker with free capacity takes over with its next beat"
    ]


def test_a_lost_worker_without_sessions_is_history() -> None:
    assert said(worker(), lost(sessions=0)) == []


def test_an_existing_worker_that_is_silent_keeps_its_sessions() -> None:
    assert said(lost("host:3001", existing=True), unowned=25) == [
        "worker host:3001 does not answer; its 25 sessions cannot move: their logins are there: start it again"
    ]


def test_sessions_that_nobody_has_run_yet() -> None:
    assert said(worker(capacity=60), unowned=2) == [
        "2 sessions have no worker; a worker with free capacity takes over with its next beat"
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (-1, "0s"), (59.6, "1m"), (65, "1m 5s"), (3600, "1h"), (7800, "2h 10m"), (277200, "3d 5h")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert age(seconds) == text


def mistake(line: int, key: str = "limits[0].rate") -> PolicyProblem:
    return PolicyProblem(line, 9, key, '"x" is not a rate', "write 10/second")


@pytest.mark.parametrize(
    ("problems", "what"),
    [
        ([mistake(7)], 'line 7: limits[0].rate: "x" is not a rate; write 10/second'),
        ([mistake(7), mistake(9)], 'line 7: limits[0].rate: "x" is not a rate; write 10/second; 1 mistake more'),
        (
            [mistake(7), mistake(8), mistake(9)],
            'line 7: limits[0].rate: "x" is not a rate; write 10/second; 2 mistakes',
        ),
        ([mistake(0, "")], '"x" is not a rate; write 10/second'),
    ],
)
def test_a_wrong_file_and_what_stays_in_force(problems: list[PolicyProblem], what: str) -> None:
    (sentence,) = said(problems=problems)
    assert sentence.startswith(f"policies.yaml is wrong, so revision 5e1f00d5e1f0 stays in force: {what}")
    assert sentence.endswith("more: sluice check") == (len(problems) > 1)


@pytest.mark.parametrize(
    ("keys", "listed"),
    [
        (["listen"], "listen"),
        (["listen", "data"], "listen and data"),
        (["listen", "data", "store.url"], "listen, data and store.url"),
    ],
)
def test_what_waits_for_a_restart(keys: list[str], listed: str) -> None:
    assert said(needs_restart=keys) == [
        f"policies.yaml: {listed} changed, which counts from the next start on; restart Sluice"
    ]


@pytest.mark.parametrize(
    ("removed", "wait"),
    [
        (RemovedEndpoint("crm", 0, 0, 4), "4 dead letters wait"),
        (RemovedEndpoint("crm", 1, 0, 0), "1 event waits"),
        (RemovedEndpoint("crm", 2, 1, 1), "3 events wait and 1 dead letter waits"),
    ],
)
def test_a_removed_endpoint_speaks_while_something_lies_there_for_it(removed: RemovedEndpoint, wait: str) -> None:
    assert said(removed=[removed]) == [
        f"crm is not an endpoint of the policies, and {wait} for it: put it back to deliver them, or give them to "
        "another: sluice queue move crm NEW"
    ]


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (
            circuit("open", why="moving house", held=True),
            "laravel: the circuit is held open by a person (moving house): nothing is sent; 2 events wait, "
            "nothing is lost; sluice circuit release laravel",
        ),
        (
            circuit(held=True),
            "laravel: the circuit is held closed by a person: everything is sent, whatever comes of it; "
            "sluice circuit release laravel",
        ),
    ],
)
def test_a_circuit_that_a_person_holds_says_how_to_let_it_go(seen: CircuitOfEndpoint, sentence: str) -> None:
    assert said(worker(), laravel=endpoint(circuit=seen, waiting=2)) == [sentence]


def test_more_than_a_rate_can_ever_deliver_says_when_it_is_full_and_the_cure() -> None:
    flooded = endpoint(waiting=400, oldest_due_s=240.0, inflow=2.5, rate=100 / 60, max_per_second=100 / 60)
    assert said(worker(), laravel=flooded) == [
        "laravel: 150 a minute come in and its rate lets 100 a minute through: the backlog grows by 50 a minute and is "
        "full in 12m; raise relay.endpoints.laravel.rate, or give events that go stale a ttl or keep: latest"
    ]


@pytest.mark.parametrize("inflow", [None, 1.6, 1.7])
def test_what_a_rate_can_deliver_is_only_late(inflow: float | None) -> None:
    late = endpoint(waiting=400, oldest_due_s=240.0, inflow=inflow, rate=100 / 60, max_per_second=100 / 60)
    assert said(worker(), laravel=late) == [
        "laravel: 400 events wait, the oldest for 4m; the endpoint's rate lets 1.67 a second through"
    ]


def test_a_flood_that_batches_can_deliver_is_none() -> None:
    calm = endpoint(waiting=4, oldest_due_s=0.0, inflow=2.5, rate=100 / 60, max_per_second=10000 / 60)
    assert said(worker(), laravel=calm) == []


def test_a_clock_that_was_set_is_told_with_what_it_means_and_the_cure() -> None:
    cure = "keep the clock of the store's machine right: timedatectl set-ntp true"
    assert said(clock_jump=ClockJump(-600.2, 185.0, 598.2)) == [
        "the store's clock jumped back by 10m, 3m 5s ago: nothing waits longer for it, "
        f"and times are shown 9m 58s ahead of it; {cure}"
    ]
    assert said(clock_jump=ClockJump(600.0, 5.0, 0.0)) == [
        "the store's clock jumped forward by 10m, 5s ago: leases, waits and times to live may have ended early; " + cure
    ]
