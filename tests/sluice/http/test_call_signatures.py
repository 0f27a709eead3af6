from __future__ import annotations

import hmac

import pytest

from sluice.config import Secret, Signature
from sluice.http.call_signatures import CallClaim, claim_of, sign_call
from sluice.http.signatures import sign

KEY = Signature("workers", "blazz", Secret(b"my-secret-key"), 300.0, older=(Secret(b"the-old-key"),))
NOW = 1_700_000_000.0
PATH = "/_sluice/workers/w1/beat"
BODY = b'{"instance":"1","sessions":{}}'


def claimed(headers: list[tuple[bytes, bytes]], method: str = "POST", path: str = PATH) -> CallClaim:
    claim = claim_of(headers, method, path)
    assert isinstance(claim, CallClaim), claim
    return claim


def test_what_is_signed_is_the_scheme_the_time_the_method_the_path_and_the_body() -> None:
    signed = b"v1\n1700000000\nPOST\n/_sluice/workers/w1/beat\n" + BODY
    digest = hmac.new(b"my-secret-key", signed, "sha256").hexdigest().encode()
    assert sign_call(KEY, "POST", PATH, BODY, NOW) == [
        (b"X-Sluice-Timestamp", b"1700000000"),
        (b"X-Sluice-Signature", b"v1=" + digest),
    ]


@pytest.mark.parametrize("off", [-300, 0, 300])
def test_a_signed_call_is_proven_within_the_tolerance(off: int) -> None:
    assert claimed(sign_call(KEY, "POST", PATH, BODY, NOW)).is_proven_by(KEY, BODY, NOW + off)


@pytest.mark.parametrize(
    ("method", "path", "body", "off"),
    [
        ("PUT", PATH, BODY, 0),
        ("POST", "/_sluice/workers/w2/beat", BODY, 0),
        ("POST", "/_sluice/workers/w1/leave", BODY, 0),
        ("POST", PATH, BODY + b" ", 0),
        ("POST", PATH, BODY, 301),
        ("POST", PATH, BODY, -301),
    ],
)
def test_what_was_signed_for_one_call_proves_no_other(method: str, path: str, body: bytes, off: int) -> None:
    claim = claimed(sign_call(KEY, "POST", PATH, BODY, NOW), method, path)
    assert not claim.is_proven_by(KEY, body, NOW + off)


def test_an_older_secret_proves_a_call_while_secrets_are_exchanged() -> None:
    old = Signature("workers", "blazz", Secret(b"the-old-key"))
    assert claimed(sign_call(old, "POST", PATH, BODY, NOW)).is_proven_by(KEY, BODY, NOW)


def test_another_secret_proves_nothing() -> None:
    other = Signature("workers", "blazz", Secret(b"another"))
    assert not claimed(sign_call(other, "POST", PATH, BODY, NOW)).is_proven_by(KEY, BODY, NOW)


def test_a_webhook_that_is_signed_with_the_same_secret_is_no_call() -> None:
    """Its text may be anything, also the rest of what a call signs."""
    (_, digest), (_, timestamp) = sign(KEY, b"\nPOST\n/_sluice/workers/w1/beat\n" + BODY, NOW)
    headers = [(b"X-Sluice-Timestamp", timestamp), (b"X-Sluice-Signature", b"v1=" + digest)]
    assert not claimed(headers).is_proven_by(KEY, BODY, NOW)


def test_a_signature_over_the_body_alone_is_told_how_to_sign() -> None:
    assert claim_of(sign(KEY, BODY, NOW), "POST", PATH) == (
        "send X-Sluice-Timestamp with the unix time in seconds and X-Sluice-Signature with v1= and the hex "
        "HMAC-SHA256 of v1, that time, POST, /_sluice/workers/w1/beat and the body, with a line feed between them; "
        "a signature over the body alone is not enough (docs/workers.md)"
    )


def test_another_scheme_is_refused() -> None:
    headers = [(b"x-sluice-timestamp", b"1700000000"), (b"x-sluice-signature", b"v2=00")]
    assert claim_of(headers, "POST", PATH) == (
        "X-Sluice-Signature does not begin with v1=, the only scheme that is known here"
    )


def test_a_header_that_is_there_twice_proves_nothing() -> None:
    signed = sign_call(KEY, "POST", PATH, BODY, NOW)
    assert isinstance(claim_of([*signed, signed[0]], "POST", PATH), str)


@pytest.mark.parametrize(
    ("timestamp", "said"),
    [
        (b"1699999000", "X-Sluice-Timestamp is 1000s old, 300s are allowed"),
        (b"1700001000", "X-Sluice-Timestamp is 1000s ahead of our clock, 300s are allowed"),
        (b"1700000000000", "it looks like milliseconds, send seconds"),
        (b"now", "X-Sluice-Timestamp is not unix time in seconds"),
        (b"", "X-Sluice-Timestamp is not unix time in seconds"),
    ],
)
def test_a_time_that_is_off_is_told_in_words(timestamp: bytes, said: str) -> None:
    claim = claimed([(b"X-Sluice-Timestamp", timestamp), (b"X-Sluice-Signature", b"v1=00")])
    assert said in str(claim.why_late(KEY, NOW))
    assert not claim.is_proven_by(KEY, BODY, NOW)
