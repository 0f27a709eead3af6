from __future__ import annotations

import pytest

from runtime.policies.model import Secret, Signature
from runtime.signatures import refusal, sign

BLAZZ = Signature("workers", "blazz", Secret(b"my-secret-key"), tolerance=300)
BODY = b'{"event":"message","session":"default","engine":"WEBJS"}'
VECTOR = b"1831fd1aa45381590c9a10ccac49fd2b461e7411731c6346890cbd751ee0f4b3"
NOW = 1_700_000_000.0


def test_the_published_vector_of_the_preset() -> None:
    assert sign(BLAZZ, BODY, NOW) == [(b"X-HMAC-Signature", VECTOR), (b"X-Timestamp", b"1700000000")]


def test_what_was_signed_is_accepted_until_the_tolerance_ends() -> None:
    headers = sign(BLAZZ, BODY, NOW)
    assert refusal(BLAZZ, headers, BODY, NOW + 300) is None
    assert refusal(BLAZZ, headers, BODY, NOW - 300) is None


def test_a_stale_timestamp_is_refused_in_words() -> None:
    assert refusal(BLAZZ, sign(BLAZZ, BODY, NOW), BODY, NOW + 301) == "X-Timestamp is 301s old, 300s are allowed"


def test_milliseconds_are_recognised_as_the_mistake_they_are() -> None:
    headers = [(b"x-hmac-signature", VECTOR), (b"x-timestamp", b"1700000000000")]
    assert "it looks like milliseconds, send seconds" in str(refusal(BLAZZ, headers, BODY, NOW))


def test_one_changed_byte_of_the_body_is_refused() -> None:
    assert refusal(BLAZZ, sign(BLAZZ, BODY, NOW), BODY + b" ", NOW) == (
        "X-HMAC-Signature does not match the body; check that both sides have the same secret"
    )


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-timestamp", b"1700000000")],
        [(b"x-hmac-signature", VECTOR)],
        [(b"x-hmac-signature", VECTOR), (b"x-hmac-signature", VECTOR), (b"x-timestamp", b"1700000000")],
    ],
)
def test_missing_or_repeated_headers_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    assert "must both be there, once" in str(refusal(BLAZZ, headers, BODY, NOW))


@pytest.mark.parametrize("timestamp", [b"", b"-1", b"1e9", b"soon", b"\xb2", b"9" * 19])
def test_a_timestamp_that_is_no_number_is_refused(timestamp: bytes) -> None:
    headers = [(b"x-hmac-signature", VECTOR), (b"x-timestamp", timestamp)]
    assert "not unix time in seconds" in str(refusal(BLAZZ, headers, BODY, NOW))
