from __future__ import annotations

from sessions.worker.dropped import Dropped


def test_what_was_dropped_within_the_last_hour_counts_and_what_is_stale_anyway_does_not() -> None:
    now = 1000.0
    dropped = Dropped(lambda: now)
    dropped.add("s1", "message_received")
    dropped.add("s1", "typing_indicator")
    now += 1800
    dropped.add("s2", "message")
    assert dropped.lately() == 2
    now += 1801
    assert dropped.lately() == 1
    now += 1801
    assert dropped.lately() == 0


def test_what_is_still_to_be_found_is_known_by_session() -> None:
    dropped = Dropped()
    dropped.add("s1", "acknowledged")
    dropped.add("s2", "presence")
    assert dropped.of("s1")
    assert not dropped.of("s2")
    dropped.found("s1")
    assert not dropped.of("s1")
