from __future__ import annotations

import re
from collections import Counter

import pytest

from sluice.demo import traffic

FIFTY = traffic.names(50)


def test_fifty_sessions_make_250_events_a_minute() -> None:
    types = Counter(timed.event["event"] for session in FIFTY for timed in traffic.minute(session, 7))
    assert types == {"message_received": 50, "message_status_updated": 100, "typing_indicator": 50, "heartbeat": 50}


def test_the_same_minute_is_always_the_same_and_others_differ() -> None:
    one = traffic.minute(FIFTY[0], 3)
    assert one == traffic.minute(FIFTY[0], 3)
    others = [traffic.minute(FIFTY[0], 4), traffic.minute(FIFTY[1], 3), traffic.minute(FIFTY[0], 3, seed=1)]
    assert all([timed.at for timed in one] != [timed.at for timed in other] for other in others)


def test_names_have_the_form_of_the_node_service_and_a_longer_list_begins_with_the_shorter() -> None:
    assert len(set(FIFTY)) == 50
    assert all(re.fullmatch(r"webjs_\d+_\d+_[0-9a-f]{8}", name) for name in FIFTY)
    assert traffic.names(10) == FIFTY[:10]
    assert traffic.workspace(FIFTY[2]) == 3


@pytest.mark.parametrize("name", ["", "alone", "a_b_c_d", "webjs_²_1_x", "a_1_2_3_4"])
def test_a_name_of_another_form_belongs_to_workspace_1(name: str) -> None:
    assert traffic.workspace(name) == 1


def test_every_event_names_its_session_and_workspace() -> None:
    for session in FIFTY:
        for timed in traffic.minute(session, 0):
            assert set(timed.event) == {"event", "data"}
            assert timed.event["data"]["session_id"] == session
            assert timed.event["data"]["workspace_id"] == traffic.workspace(session)


def test_events_come_in_the_order_of_time_within_the_minute() -> None:
    for session in FIFTY:
        times = [timed.at for timed in traffic.minute(session, 11)]
        assert times == sorted(times)
        assert all(0 <= at < 1 for at in times)


def test_a_message_is_delivered_then_read_after_it_came() -> None:
    for session in FIFTY:
        for number in range(20):
            ordered = [timed for timed in traffic.minute(session, number) if "sequence" in timed.event["data"]]
            message, delivered, read = ordered
            known_by = message.event["data"]["message"]["id"]
            assert message.at < delivered.at < read.at
            told = [(e.event["data"]["message_id"], e.event["data"]["status"]) for e in (delivered, read)]
            assert told == [(known_by, "delivered"), (known_by, "read")]
            assert [e.event["data"]["ack_level"] for e in (delivered, read)] == [2, 3]


def test_sequences_grow_without_a_gap_over_minutes_and_beats_count_them() -> None:
    timed = [timed for number in range(5) for timed in traffic.minute(FIFTY[0], number)]
    assert [t.event["data"]["sequence"] for t in timed if "sequence" in t.event["data"]] == list(range(1, 16))
    for kind in ("typing_indicator", "heartbeat"):
        assert [t.event["data"]["beat"] for t in timed if t.event["event"] == kind] == [0, 1, 2, 3, 4]


def test_sessions_do_not_move_in_step() -> None:
    tenths = Counter(int(10 * ((timed.at - traffic.phase(s)) % 1)) for s in FIFTY for timed in traffic.minute(s, 0))
    assert len(tenths) == 10
    assert max(tenths.values()) < 2.5 * 250 / 10
