from __future__ import annotations

from typing import Any

from sluice.console.status import DisputedSession, ExistingWorkerStatus, SessionCounts, WorkerStatus
from tests.sluice.console.saying import said

URL = "http://127.0.0.1:3001"


def existing(why: str | None = None, **more: Any) -> ExistingWorkerStatus:
    return ExistingWorkerStatus(
        **({"worker": "w1", "url": URL, "why": why, "since_s": 300.0, "answered": False} | more)
    )


def test_a_worker_that_never_answered() -> None:
    assert said(existing=(existing("no answer within 2s"),)) == [
        "worker w1 of sessions.workers has never answered for 5m (no answer within 2s): start it, or take it out of "
        "sessions.workers; curl -i http://127.0.0.1:3001 shows whether it answers"
    ]


def test_a_worker_that_refuses_our_key() -> None:
    refused = existing("GET /api/sessions answered 401", answered=True, refused=True, keyed=True)
    assert said(existing=(refused,)) == [
        "worker w1 of sessions.workers has not answered for 5m (GET /api/sessions answered 401): its key in "
        "sessions.workers is wrong; where it has none, take key out, as it refuses who sends one"
    ]


def test_a_worker_that_wants_a_key() -> None:
    assert said(existing=(existing("GET /api/sessions answered 401", refused=True),)) == [
        "worker w1 of sessions.workers has never answered for 5m (GET /api/sessions answered 401): it wants a key: "
        "write key: env:NAME beside its url in sessions.workers"
    ]


def test_several_processes_at_one_url() -> None:
    assert said(existing=(existing(answered=True, several=True),)) == [
        "several processes answer at http://127.0.0.1:3001 of worker w1 in turn, so nobody can tell which of them runs "
        "a session: give each a port and a LARAVEL_URL of its own (examples/pm2)"
    ]


def test_items_that_cannot_be_read() -> None:
    assert said(existing=(existing(answered=True, odd=2, example='{"id":""}'),)) == [
        'worker w1 lists 2 items that name no session and so cannot be routed to, such as {"id":""}: see what its GET '
        "/api/sessions answers"
    ]


def test_a_silent_worker_with_sessions_is_told_once_with_cause_and_since_when() -> None:
    lost = WorkerStatus("w1", URL, True, 2, 25, True, None, 0.0)
    assert said(existing=(existing("no answer within 2s", answered=True),), workers=(lost,)) == [
        "worker w1 does not answer (for 5m: no answer within 2s); its 2 sessions cannot move: their logins are there: "
        "start it, or take it out of sessions.workers; curl -i http://127.0.0.1:3001 shows whether it answers"
    ]


def test_a_worker_that_restores_its_sessions() -> None:
    restoring = existing(answered=True, missing=3, restoring_s=500.0, up_s=40.0)
    assert said(existing=(restoring,)) == [
        "worker w1 was started 40s ago and restores its sessions: 3 sessions are still to come (sessions.restore)"
    ]
    assert said(existing=(existing(answered=True, missing=1, restoring_s=500.0),)) == [
        "worker w1 answers again and restores its sessions: 1 session is still to come (sessions.restore)"
    ]


def test_sessions_that_did_not_come_back() -> None:
    assert said(existing=(existing(answered=True, missing=3, up_s=4000.0),)) == [
        "worker w1 does not list 3 sessions that it had: create them again, or sluice sessions forget SESSION (sluice "
        "sessions list --worker w1)"
    ]


def worker(name: str = "w1", **more: Any) -> WorkerStatus:
    known = {"worker": name, "url": URL, "existing": False, "sessions": 2, "capacity": 25, "lost": False}
    return WorkerStatus(**(known | {"last_beat_s": 1.0, "beat_left_s": 14.0} | more))


def test_sessions_of_a_worker_that_the_policies_do_not_name_any_more() -> None:
    gone = worker(existing=True, lost=True, waiting=2, named=False, last_beat_s=None, beat_left_s=0.0)
    counts = SessionCounts(2, 0, {"connected": 2}, 2)
    assert said(workers=(gone,), sessions=counts) == [
        "worker w1 is not in sessions.workers any more, and its 2 sessions are without a worker, as the logins lie "
        "there: put it back, or sluice sessions move SESSION --to WORKER (sluice sessions list --orphaned)"
    ]


def test_sessions_that_an_existing_worker_has_not_begun() -> None:
    counts = SessionCounts(3, 0, {"created": 3}, 3)
    assert said(workers=(worker(existing=True, waiting=3),), sessions=counts) == [
        "worker w1 has not begun 3 sessions that it is to run: it does when it restores them, or when they are created "
        "again"
    ]


def test_a_worker_that_is_full_by_its_own_report() -> None:
    assert said(workers=(worker(memory=0.95),)) == [
        "worker w1 takes no more sessions, as its memory is at 95%: give it more, or start one more of yours"
    ]
    assert said(workers=(worker(cpu=0.9),)) == [
        "worker w1 takes no more sessions, as its CPU is at 90%: give it more, or start one more of yours"
    ]


def test_events_that_a_worker_could_not_pass_on() -> None:
    assert said(workers=(worker(dropped_events=3),)) == [
        "worker w1 could not pass on 3 events of its sessions within the last hour: its log says of which, and why; "
        "sluice sessions restart SESSION looks in that one's chats for what Laravel was not told"
    ]


def test_a_session_that_two_workers_claim() -> None:
    disputed = tuple(DisputedSession(f"s{i};", "w0", "w1") for i in range(7))
    sentences = said(existing=(existing(disputed=disputed),))
    assert sentences[0] == (
        "session s0; runs at w0 and at w1, where its requests do not go: close it there: curl -X DELETE "
        "http://127.0.0.1:3001/api/sessions/s0%3B"
    )
    assert sentences[5:] == ["2 more sessions run at w1 and at another worker too"]
    (sentence,) = said(existing=(existing(disputed=disputed[:1], keyed=True),))
    assert sentence.endswith("curl -X DELETE -d api_key=KEY http://127.0.0.1:3001/api/sessions/s0%3B")


def test_workers_that_answer_have_nothing_to_say() -> None:
    assert said(existing=(existing(answered=True),)) == []


def test_laravel_that_is_led_past_us() -> None:
    assert said(existing=(existing(answered=True),), advertise=None) == [
        "Laravel is given the workers' own addresses, and calls them past Sluice from then on: write "
        "sessions.advertise with this gateway's address, as Laravel reaches it"
    ]
    assert said(advertise=None) == [], "there are no such workers"
