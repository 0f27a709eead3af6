from __future__ import annotations

import pytest

from relay.queue.codec import entry_id_of
from relay.queue.history_codec import Attempt, find_on_page, read_attempt, read_attempts, summary_of, written_at

OTHER, WANTED = entry_id_of("normal", "s1", 1, "evt_1"), entry_id_of("bulk", "s2", 2, "evt_2")
LOG = b"1700000000100 500 12 answered 500\n1700000000200 - 3 connection refused\n"
PAGE = (
    b"1700000001000 3 3\n"
    + (b"1700000000000 delivered 0 0 200 7\n" + OTHER + b"\1")
    + (b"1700000000050 delivered 2 %d 200 9\n" % len(LOG) + WANTED + b"\1" + LOG)
    + (b"1700000000000 expired 0 0 \n" + OTHER + b"\1")
)


def test_an_event_is_found_on_a_page_with_its_attempts() -> None:
    found = find_on_page(PAGE, b"evt_2")
    assert found is not None
    assert (found.entry_id, found.at, found.accepted_at) == (WANTED, 1700000001.0, 1700000000.05)
    assert (found.state, found.failed, found.summary) == ("delivered", 2, "200 9")
    assert found.attempts == (
        Attempt(1700000000.1, 500, 12.0, "answered 500"),
        Attempt(1700000000.2, None, 3.0, "connection refused"),
    )


def test_of_several_entries_about_an_event_the_last_one_counts() -> None:
    found = find_on_page(PAGE, b"evt_1")
    assert found is not None
    assert (found.state, found.summary, found.attempts) == ("expired", "", ())


def test_what_is_not_on_a_page_is_not_found_by_a_part_of_its_id() -> None:
    assert find_on_page(PAGE, b"evt_") is None
    assert find_on_page(PAGE, b"vt_1") is None


def test_a_page_says_when_it_was_written() -> None:
    assert written_at(PAGE) == 1700000001.0


def test_without_a_log_there_are_no_attempts() -> None:
    assert read_attempts(None) == ()


@pytest.mark.parametrize(
    ("status", "reason", "summary"),
    [(200, "", "200 12"), (500, "answered 500", "500 12 answered 500"), (None, "timed out", "- 12 timed out")],
)
def test_a_summary_is_read_as_it_was_written(status: int | None, reason: str, summary: str) -> None:
    assert summary_of(status, 12.3, reason) == summary
    assert read_attempt(1.0, summary) == Attempt(1.0, status, 12.0, reason)


def test_an_answer_with_a_carriage_return_is_one_attempt() -> None:
    summary = summary_of(413, 3.0, "answered 413: <html>\r <head>\x0b\x1c\x85 \r")
    log = f"1700000000123 {summary}\n1700000000124 - 7 refused\n".encode()
    assert [(one.status, one.reason) for one in read_attempts(log)] == [
        (413, "answered 413: <html>\r <head>\x0b\x1c\x85 \r"),
        (None, "refused"),
    ]
