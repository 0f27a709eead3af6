from __future__ import annotations

import pytest

from relay.deliver.outcome import (
    Delivered,
    Failed,
    Outcome,
    Paused,
    Refused,
    Rejected,
    outcome_of,
    outcomes_of,
    parse_retry_after,
)

NOW = 1_700_000_000.0


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert outcome_of(status, [], b"") == Delivered(status)


@pytest.mark.parametrize(
    ("answer", "handled"),
    [
        (b'{"status":"processed_inline"}', "inline"),
        (b'{"event": "message_sent", "status": "processed_inline"}', "inline"),
        (b'{"status":"queued"}', "queued"),
        (b'{"status":"received"}', ""),
        (b"<p>processed_inline</p>", ""),
        (b" " * 256 + b'{"status":"queued"}', ""),
    ],
)
def test_an_answer_says_in_its_beginning_how_the_event_was_handled(answer: bytes, handled: str) -> None:
    assert outcome_of(200, [], answer) == Delivered(200, handled)
    assert outcomes_of(200, [], answer, 2) == [Delivered(200, handled)] * 2
    assert outcome_of(500, [], answer) == Failed("answered 500", None, 500)


@pytest.mark.parametrize("status", [408, 409, 423, 425, 500, 502, 503, 504, 301, 302, 307])
def test_what_may_pass_by_itself_is_a_failure(status: int) -> None:
    assert outcome_of(status, [], b"") == Failed(f"answered {status}", None, status)


def test_429_pauses_the_endpoint_even_when_it_does_not_say_for_how_long() -> None:
    assert outcome_of(429, [], b"") == Paused("answered 429", 0.0, 429)
    assert outcome_of(429, [(b"Retry-After", b"12")], b"") == Paused("answered 429", 12.0, 429)


def test_503_pauses_only_when_it_says_for_how_long() -> None:
    assert outcome_of(503, [(b"retry-after", b"5")], b"") == Paused("answered 503", 5.0, 503)
    assert isinstance(outcome_of(503, [], b""), Failed)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410, 419, 421, 426, 451, 511])
def test_what_may_be_the_endpoint_s_fault_or_the_event_s_is_refused_and_names_a_cure(status: int) -> None:
    outcome = outcome_of(status, [], b"")
    assert isinstance(outcome, Refused)
    assert len(outcome.reason) > len("answered 404: ")


@pytest.mark.parametrize("status", [400, 402, 406, 413, 415, 422, 431])
def test_the_event_s_fault_is_rejected_with_the_answer(status: int) -> None:
    assert outcome_of(status, [], b'{"message":"no"}') == Rejected(f'answered {status}: {{"message":"no"}}', status)


def test_only_the_first_2_kib_of_the_answer_are_kept() -> None:
    outcome = outcome_of(422, [], b"x" * 10_000)
    assert isinstance(outcome, Rejected)
    assert len(outcome.reason) < 2100


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"120", 120.0),
        (b"0", 0.0),
        (b"Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        (b"Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        (b"Tuesday, 14-Nov-23 22:13:30 GMT", 10.0),
        (b"Tue Nov 14 22:13:30 2023", 10.0),
        (b"Tue, 14 Nov 2023 22:13:30 -0000", 10.0),
        (b" 7 ", 7.0),
        (b"1.5", 1.5),
        (b"999999999999", 1e9),
        (b"9" * 5000, None),
        (b"-5", None),
        (b"1e9", None),
        (b"1.", None),
        (b"Tue, 99 Nov 2023 22:13:30 GMT", None),
        (b"Tue, 14 Nov 99999 22:13:30 GMT", None),
        ("١٢".encode(), None),
        (b"soon", None),
        (b"", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float | None) -> None:
    assert parse_retry_after([(b"Retry-After", value)], NOW) == seconds


def test_a_refusal_waits_at_least_as_long_as_it_asks() -> None:
    outcome = outcome_of(401, [(b"retry-after", b"90")], b"")
    assert outcome == Refused("answered 401: check that both sides have the same secret", 90.0, 401)


def test_what_failed_is_not_tried_again_before_the_receiver_asks_for_it() -> None:
    assert outcome_of(500, [(b"retry-after", b"90")], b"") == Failed("answered 500", 90.0, 500)


# --- batches


@pytest.mark.parametrize(
    "answer", [b"", b"ok", b"[]", b'{"status":422}', b"[200]", b'["a","b"]', b"[200,true]", b"[1,2]"]
)
def test_a_batch_that_is_taken_as_a_whole_is_delivered(answer: bytes) -> None:
    assert outcomes_of(200, [], answer, 2) == [Delivered(200), Delivered(200)]


@pytest.mark.parametrize("status", [200, 207])
def test_a_batch_may_be_answered_event_by_event(status: int) -> None:
    answer = b'[200, 500, {"status": 422, "error": "no such chat"}, {"status": 429}]'
    expected: list[Outcome] = [
        Delivered(200),
        Failed("answered 500", 5.0, 500),
        Rejected('answered 422: {"status":422,"error":"no such chat"}', 422, is_proven=True),
        Paused("answered 429", 5.0, 429),
    ]
    assert outcomes_of(status, [(b"Retry-After", b"5")], answer, 4) == expected


def test_a_batch_whose_events_are_all_rejected_shows_nobody_s_fault() -> None:
    assert outcomes_of(207, [], b"[422,422]", 2) == [Rejected("answered 422", 422)] * 2


@pytest.mark.parametrize("answer", [b"", b"ok", b"[200]", b"[200,200,200]", b'[200,{"error":"x"}]', b'[200,"200"]'])
def test_207_without_a_status_for_each_event_is_a_failure_of_all(answer: bytes) -> None:
    failed = Failed("answered 207 without one status for each event", None, 207)
    assert outcomes_of(207, [], answer, 2) == [failed, failed]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(201, Delivered), (202, Delivered), (500, Failed), (302, Failed), (429, Paused), (401, Refused)],
)
def test_another_answer_to_a_batch_is_that_of_all_its_events(status: int, kind: type[Outcome]) -> None:
    assert [type(outcome) for outcome in outcomes_of(status, [], b"[422,422]", 2)] == [kind, kind]
