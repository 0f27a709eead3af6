"""What `status` says of stale sessions, and of Laravel's being told of ended ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sessions.lifecycle.cleanings import Cleanings, NotClosed, Run
from sessions.lifecycle.policies import Cleanup
from sluice.console.cleanup import CleaningRun, CleanupStatus, UnclosedSession, cleanup_status
from sluice.console.status import RivalStatus, UntoldEndings
from tests.sluice.console.saying import WELL, said

RUN = CleaningRun(WELL.at - timedelta(minutes=5), "gw", False, 3, 0, False, (), 1, 0, "")
STATUS = CleanupStatus(3600.0, False, None, WELL.at, 0.0, RUN)


def changed(**what: Any) -> list[str]:
    return said(cleanup=replace(STATUS, last=replace(RUN, **what)))


def test_a_run_that_did_what_it_was_to_do_needs_nobody() -> None:
    assert said(cleanup=STATUS, untold=UntoldEndings(1, 2.0)) == []
    assert said(cleanup=replace(STATUS, last=None)) == []


def test_what_could_not_be_done_is_said_with_its_cure() -> None:
    assert changed(not_closed=(UnclosedSession("s1", "w1"),)) == [
        "worker w1 did not close session s1, which is stale, 5m ago: see whether it answers and takes its key "
        "(sessions.workers), then sluice sessions clean"
    ]
    assert changed(not_purged=2, why_not_purged="the bucket does not answer") == [
        "2 sessions that were ended long ago wait to be purged, and the vault fails (the bucket does not answer): a "
        "create of one that is being purged is answered 503 until it works again: sluice vault verify"
    ]
    assert said(cleanup=replace(STATUS, late_s=600.0)) == [
        "stale sessions were to be ended 10m ago, and no gateway has begun: see what the gateways' logs say of cleanup"
    ]
    assert said(untold=UntoldEndings(3, 300.0)) == [
        "3 sessions were ended and Laravel has not been told for 5m, as no event of it can be stored: see whether a "
        "backlog is full"
    ]


@pytest.mark.parametrize(("dry", "messages"), [(True, 1), (False, 0)])
def test_a_dry_run_is_said_as_long_as_it_is_one_and_finds_something(dry: bool, messages: int) -> None:
    last = replace(RUN, dry_run=True, ended=0, would_end=3)
    found = said(cleanup=replace(STATUS, dry_run=dry, last=last))
    assert (
        found
        == [
            "3 sessions are stale, and nothing is done, as sessions.cleanup.dry_run is true: sluice sessions clean "
            "--dry-run names them; take dry_run out"
        ][:messages]
    )
    assert changed(dry_run=True, would_end=0) == []


def test_with_oldest_it_is_said_that_laravel_is_not_told() -> None:
    (found,) = said(rivals=(RivalStatus("b", "a", "w1"),), one_phone="oldest")
    assert found == (
        "session b at w1 is connected with the phone of session a, and Laravel is not told that it is ready "
        "(one_phone: oldest): end it: sluice sessions clean --duplicates, or let Sluice do it: sessions.one_phone: "
        "{keep: oldest, enforce: true}"
    )


def test_what_the_store_has_is_told_as_it_is() -> None:
    run = Run("gw", ended=2, more=True, not_closed=(NotClosed("s1", "w1"),), purged=1)
    found = cleanup_status(Cleanup(), Cleanings(1000.0, "", 900.0, 500.0, run))
    assert found is not None
    assert found.last is not None
    assert (found.late_s, found.running, found.every_s) == (100.0, None, 3600.0)
    assert (found.last.ended, found.last.more, found.last.not_closed) == (2, True, (UnclosedSession("s1", "w1"),))
    assert cleanup_status(None, Cleanings(1000.0, "", None, None, None)) is None
    assert cleanup_status(Cleanup(), None) is None
