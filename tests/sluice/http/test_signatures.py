from __future__ import annotations

import time
from base64 import b64decode, b64encode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from sluice.config import Preset, Secret, Signature
from sluice.http.signatures import proof_of, refusal, sign

BLAZZ = Signature("workers", "blazz", Secret(b"my-secret-key"), tolerance=300)
BODY = b'{"event":"message","session":"default","engine":"WEBJS"}'
VECTOR = b"1831fd1aa45381590c9a10ccac49fd2b461e7411731c6346890cbd751ee0f4b3"
NOW = 1_700_000_000.0
SHA256_OF_BODY = b"46270e6ad829217a54d67026afb4ef20e76d3a4ea36d64b140834b5fb3e8b83a"
DOTTED = b"3d1ebab5c7111e037e8b317fe2667f5588c3ecf06e026bb3c89cb872ac121579"
SHA512_OF_BODY = (
    b"208f8a55dde9e05519e898b10b89bf0d0b3b0fdf11fdbf09b6b90476301b98d8"
    b"097c462b2b17a6ce93b6b47a136cf2e78a33a63f6752c2c1631777076153fa89"
)
KEY = b"k" * 24
PRESETS: tuple[Preset, ...] = ("blazz", "body-sha256", "dotted", "waha", "standard", "key")


def of_preset(preset: Preset, key: bytes = b"my-secret-key", header: str = "", prefix: str | None = None) -> Signature:
    return Signature("any", preset, Secret(key), 300.0, header=header, prefix=prefix)


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


# --- every preset


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_preset_signs_it_accepts_and_nothing_else(preset: Preset) -> None:
    ours, theirs = of_preset(preset), of_preset(preset, b"another")
    headers = sign(ours, BODY, NOW, b"evt_1")
    assert refusal(ours, headers, BODY, NOW) is None
    assert refusal(ours, [(name.swapcase(), b" " + value) for name, value in headers], BODY, NOW) is None
    assert refusal(ours, sign(theirs, BODY, NOW), BODY, NOW) is not None
    assert {name.lower() for name, _ in headers} == proof_of(ours).names
    if preset != "key":
        assert "does not match the body" in str(refusal(ours, headers, BODY + b" ", NOW))


@pytest.mark.parametrize("preset", PRESETS)
def test_while_secrets_are_exchanged_any_of_them_proves_a_request(preset: Preset) -> None:
    old, new = of_preset(preset, b"old"), of_preset(preset, b"new")
    both = replace(new, older=(old.secret,))
    for sender in (old, new, both):
        assert refusal(both, sign(sender, BODY, NOW), BODY, NOW) is None
    assert refusal(new, sign(both, BODY, NOW), BODY, NOW) is None  # ours are signed with the newest
    assert refusal(both, sign(of_preset(preset, b"third"), BODY, NOW), BODY, NOW) is not None


@pytest.mark.parametrize("preset", PRESETS)
def test_a_proof_that_is_not_there_or_there_twice_is_refused(preset: Preset) -> None:
    signature = of_preset(preset)
    headers = sign(signature, BODY, NOW)
    assert "must" in str(refusal(signature, [], BODY, NOW))
    assert "must" in str(refusal(signature, [*headers, *headers], BODY, NOW))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"v1,", b"sha256=", b"v1,v1,v1", b"," * 10_000, b" "])
def test_a_proof_that_is_nonsense_is_refused_and_nothing_breaks(preset: Preset, value: bytes) -> None:
    signature = of_preset(preset)
    headers = [(name, value) for name, _ in sign(signature, BODY, NOW)]
    assert refusal(signature, headers, BODY, NOW) is not None


@pytest.mark.parametrize("preset", ["blazz", "dotted", "standard"])
def test_a_signed_time_is_held_to_the_tolerance(preset: Preset) -> None:
    signature = of_preset(preset)
    headers = sign(signature, BODY, NOW)
    assert refusal(signature, headers, BODY, NOW + 300) is None
    assert "301s old, 300s are allowed" in str(refusal(signature, headers, BODY, NOW + 301))
    assert "301s ahead of our clock" in str(refusal(signature, headers, BODY, NOW - 301))


def test_no_proof_shows_its_secret() -> None:
    for preset in PRESETS[:-1]:
        assert b"my-secret-key" not in b"".join(value for _, value in sign(of_preset(preset), BODY, NOW))


# --- body-sha256


@pytest.mark.parametrize(
    ("header", "prefix", "expected"),
    [
        ("", None, (b"X-Hub-Signature-256", b"sha256=" + SHA256_OF_BODY)),
        ("X-OpenWA-Signature", None, (b"X-OpenWA-Signature", b"sha256=" + SHA256_OF_BODY)),
        ("X-Webhook-Signature", None, (b"X-Webhook-Signature", SHA256_OF_BODY)),
        ("X-Webhook-Signature", "sha256=", (b"X-Webhook-Signature", b"sha256=" + SHA256_OF_BODY)),
        ("Signature", None, (b"Signature", SHA256_OF_BODY)),
        ("X-Hub-Signature-256", "", (b"X-Hub-Signature-256", SHA256_OF_BODY)),
    ],
)
def test_body_sha256_goes_under_the_header_and_prefix_that_its_receivers_read(
    header: str, prefix: str | None, expected: tuple[bytes, bytes]
) -> None:
    signature = of_preset("body-sha256", header=header, prefix=prefix)
    assert sign(signature, BODY, NOW) == [expected]


def test_body_sha256_is_taken_with_and_without_its_prefix_in_either_case() -> None:
    signature = of_preset("body-sha256")
    for given in (SHA256_OF_BODY, b"sha256=" + SHA256_OF_BODY, b"SHA256=" + SHA256_OF_BODY.upper()):
        assert refusal(signature, [(b"x-hub-signature-256", given)], BODY, NOW) is None
    assert refusal(signature, [], BODY, NOW) == "the header X-Hub-Signature-256 must be there, once"


# --- dotted


@pytest.mark.parametrize("prefix", [None, "sha256=", "v1="])
def test_dotted_signs_the_time_a_dot_and_the_body(prefix: str | None) -> None:
    signature = of_preset("dotted", prefix=prefix)
    assert sign(signature, BODY, NOW) == [
        (b"X-WhatsApp-Signature", (prefix or "").encode() + DOTTED),
        (b"X-WhatsApp-Timestamp", b"1700000000"),
    ]
    for given in (DOTTED, b"v1=" + DOTTED, b"sha256=" + DOTTED):
        headers = [(b"x-whatsapp-signature", given), (b"x-whatsapp-timestamp", b"1700000000")]
        assert refusal(signature, headers, BODY, NOW) is None


def test_dotted_may_stand_under_other_headers() -> None:
    signature = replace(of_preset("dotted", header="X-Sig"), timestamp_header="X-Sig-Time")
    assert [name for name, _ in sign(signature, BODY, NOW)] == [b"X-Sig", b"X-Sig-Time"]
    assert refusal(signature, [], BODY, NOW) == "the headers X-Sig and X-Sig-Time must both be there, once"


# --- waha


def test_waha_signs_the_body_with_sha512_and_counts_in_milliseconds() -> None:
    assert sign(of_preset("waha"), BODY, NOW + 0.25, b"evt_1") == [
        (b"X-Webhook-Hmac", SHA512_OF_BODY),
        (b"X-Webhook-Hmac-Algorithm", b"sha512"),
        (b"X-Webhook-Request-Id", b"evt_1"),
        (b"X-Webhook-Timestamp", b"1700000000250"),
    ]


def test_waha_is_taken_by_its_hmac_alone_and_by_no_other_algorithm() -> None:
    signature, proof = of_preset("waha"), (b"x-webhook-hmac", SHA512_OF_BODY)
    assert refusal(signature, [proof], BODY, NOW) is None
    assert refusal(signature, [proof, (b"x-webhook-hmac-algorithm", b"md5")], BODY, NOW) == (
        "X-Webhook-Hmac-Algorithm is not sha512, the one that is known here"
    )


# --- standard


@pytest.mark.parametrize(
    ("key", "event_id", "now", "body", "expected"),
    [
        (
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            b"msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
            b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            b"msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1649367553,
            b'{"email":"test@example.com","username":"test_user"}',
            b"v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
    ],
)
def test_the_published_vectors_of_the_standard(
    key: str, event_id: bytes, now: int, body: bytes, expected: bytes
) -> None:
    signature = of_preset("standard", b64decode(key))
    assert sign(signature, body, now, event_id) == [
        (b"Webhook-Id", event_id),
        (b"Webhook-Timestamp", b"%d" % now),
        (b"Webhook-Signature", expected),
    ]


@pytest.mark.parametrize("body", [b"{}", b"", '{"text":"grüße 👋"}'.encode(), b"x" * 1_000_000])
def test_the_standard_s_own_library_accepts_what_we_sign_with_either_secret(body: bytes) -> None:
    old, new = b"o" * 24, b"n" * 64
    both = replace(of_preset("standard", new), older=(Secret(old),))
    headers = {name.decode(): value.decode() for name, value in sign(both, body, time.time(), b"evt_1")}
    for key in (old, new):
        Webhook(f"whsec_{b64encode(key).decode()}").verify(body, headers, json_parse=False)


def test_we_accept_what_the_standard_s_own_library_signs() -> None:
    now = datetime.now(UTC)
    proof = Webhook(f"whsec_{b64encode(KEY).decode()}").sign("msg_1", now, BODY.decode())
    headers = [
        (b"webhook-id", b"msg_1"),
        (b"webhook-timestamp", b"%d" % now.timestamp()),
        (b"webhook-signature", b"v1a,cHVibGlj  v2 v1,bm9uZQ== " + proof.encode()),
    ]
    assert refusal(of_preset("standard", KEY), headers, BODY, now.timestamp()) is None


def test_the_standard_signs_the_id_and_the_time_too() -> None:
    signature = of_preset("standard", KEY)
    _, time_, proof = sign(signature, BODY, NOW, b"msg_1")
    mismatch = "Webhook-Signature does not match the body; check that both sides have the same secret"
    assert refusal(signature, [(b"webhook-id", b"msg_2"), time_, proof], BODY, NOW) == mismatch
    later = (b"webhook-timestamp", b"%d" % (NOW + 1))
    assert refusal(signature, [(b"webhook-id", b"msg_1"), later, proof], BODY, NOW) == mismatch


def test_the_standard_without_a_v1_signature_says_so() -> None:
    signature = of_preset("standard", KEY)
    id_, time_, _ = sign(signature, BODY, NOW)
    assert refusal(signature, [id_, time_, (b"webhook-signature", b"v1a,abc")], BODY, NOW) == (
        "Webhook-Signature holds no v1 signature (v1a, with public keys, is not known here)"
    )


# --- key


def test_a_key_is_sent_as_it_is_or_as_a_bearer() -> None:
    assert sign(of_preset("key"), BODY, NOW) == [(b"X-Api-Key", b"my-secret-key")]
    bearer = of_preset("key", header="Authorization")
    assert sign(bearer, BODY, NOW) == [(b"Authorization", b"Bearer my-secret-key")]
    assert refusal(bearer, [(b"authorization", b"bearer my-secret-key")], BODY, NOW) is None
    assert refusal(bearer, [(b"authorization", b"my-secret-key")], BODY, NOW) == (
        "Authorization does not begin with Bearer"
    )


@pytest.mark.parametrize("given", [b"", b"my-secret-ke", b"my-secret-key2", b"MY-SECRET-KEY", b"x" * 100_000])
def test_another_key_is_refused(given: bytes) -> None:
    assert refusal(of_preset("key"), [(b"x-api-key", given)], BODY, NOW) == "X-Api-Key is not a key that is known here"


def test_an_empty_key_opens_nothing() -> None:
    assert refusal(of_preset("key", b""), [(b"x-api-key", b"")], BODY, NOW) is not None
