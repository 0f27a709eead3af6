from __future__ import annotations

import pytest

from relay.outcome import Delivered, Failed, Paused, Rejected, outcome_of, parse_retry_after

NOW = 1_700_000_000.0


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert outcome_of(status, [], b"") == Delivered(status)


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504, 301, 302, 307])
def test_what_may_pass_by_itself_is_a_failure(status: int) -> None:
    assert outcome_of(status, [], b"") == Failed(f"answered {status}", None, status)


def test_429_pauses_the_endpoint_even_when_it_does_not_say_for_how_long() -> None:
    assert outcome_of(429, [], b"") == Paused("answered 429", 0.0, 429)
    assert outcome_of(429, [(b"Retry-After", b"12")], b"") == Paused("answered 429", 12.0, 429)


def test_503_pauses_only_when_it_says_for_how_long() -> None:
    assert outcome_of(503, [(b"retry-after", b"5")], b"") == Paused("answered 503", 5.0, 503)
    assert isinstance(outcome_of(503, [], b""), Failed)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 410])
def test_the_endpoint_s_own_fault_buries_nothing_and_names_the_cure(status: int) -> None:
    outcome = outcome_of(status, [], b"")
    assert isinstance(outcome, Paused)
    assert "check" in outcome.reason


@pytest.mark.parametrize("status", [400, 402, 406, 409, 413, 415, 422, 451])
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
        (b"-5", None),
        (b"1.5", None),
        (b"soon", None),
        (b"", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: bytes, seconds: float | None) -> None:
    assert parse_retry_after([(b"Retry-After", value)], NOW) == seconds
