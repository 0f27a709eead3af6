"""What `status` says of sends that limits keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.outbox.waiting import ClosedHours as Closed, WaitingSends
from sluice.console.messages.outbox import outbox
from sluice.console.outbox import ClosedHours, OutboxStatus, outbox_status
from sluice.console.status import LastMinute, Lately, RemovedEndpoint
from tests.sluice.console.saying import WELL, endpoint, said

SEEN = OutboxStatus(2.0, (), 0.0, (), ("send",))


def of(waiting: int = 12, unknown: int = 0, **what: Any) -> list[str]:
    return list(outbox(replace(SEEN, **what), waiting, unknown))


def test_what_goes_out_at_its_pace_needs_nobody() -> None:
    assert of() == []
    assert of(0, oldest_s=4000.0, unowned=("s1",), oldest_unowned_s=99.0) == []
    assert of(unowned=("s1",), oldest_unowned_s=3.0) == []
    assert list(outbox(None, 3, 0)) == []


def test_why_sends_wait_is_said_with_its_cure() -> None:
    assert of(unowned=("s1", "s2"), oldest_unowned_s=720.0) == [
        "the sends of 2 sessions wait as no worker runs them, s1 first, the oldest for 12m: see sluice sessions list "
        "--orphaned"
    ]
    assert of(closed=(ClosedHours("send", "08:00-20:00 Asia/Jakarta", 10800.0),)) == [
        "12 sends wait for the hours of limit send (08:00-20:00 Asia/Jakarta), which begin in 3h"
    ]
    assert of(240, oldest_s=720.0, limits=("send", "all")) == [
        "240 sends wait for the pace of limits send and all, the oldest for 12m: raise its rate, or have less sent"
    ]


def test_a_full_outbox_speaks_of_sends_and_of_the_limits_that_keep_them() -> None:
    cure = "raise the rate of the limits that keep them (over: queue), or relay.backlog"
    assert said(endpoints={"outbox": endpoint(waiting=850)}) == [
        f"outbox: the backlog is 85% full; at 100% sends are refused: {cure}",
    ]
    assert said(endpoints={"outbox": endpoint(refused=Lately(37, 11_400.0, 120.0))}) == [
        f"outbox: 37 sends were refused in the last 3h 10m, the newest 2m ago, as the backlog was full: {cure}"
    ]
    assert said(endpoints={"outbox": endpoint(waiting=1, oldest_due_s=12.0)}) == [
        "outbox: 1 send waits, the oldest for 12s"
    ]
    assert said(last_minute=LastMinute(refused={"outbox": {"backlog_full": 2, "store_away": 1}})) == [
        f"outbox: 2 sends were refused in the last minute because the backlog is full: {cure}",
        "outbox: 1 send was refused in the last minute because the store did not take them: see what is wrong with "
        "the store",
    ]


def test_unknown_outcomes_are_said() -> None:
    assert said(last_minute=LastMinute(outbox={"unknown": 2, "sent": 5})) == [
        "nobody knows whether 2 sends of the last minute went out, so they are dead letters and not repeated: see "
        "sluice dead list --endpoint outbox, ask the phone, then replay or drop them"
    ]


def test_what_no_limit_keeps_any_more_is_said() -> None:
    assert said(removed=(RemovedEndpoint("outbox", 2, 0, 1),)) == [
        "2 sends wait that no limit keeps any more (over: queue): they are given to their workers without a pace",
        "1 send is a dead letter that no limit keeps any more (over: queue): sluice dead list --endpoint outbox, and "
        "drop them",
    ]


def test_no_relay_has_to_run_for_sends() -> None:
    assert said(relays=0, endpoints={}) == []
    assert WELL.outbox is None


def test_a_status_tells_what_was_seen() -> None:
    seen = WaitingSends(2.0, ["s1"], 1.0, [Closed("send", "08:00-20:00 UTC", 5.0)], ["send"])
    assert outbox_status(seen) == OutboxStatus(
        2.0, ("s1",), 1.0, (ClosedHours("send", "08:00-20:00 UTC", 5.0),), ("send",)
    )
    assert outbox_status(None) is None
