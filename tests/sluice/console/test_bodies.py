from __future__ import annotations

import time

import pytest

from relay.queue.codec import Headers, Stored
from sluice.console.actions.bodies import content_of, masked


def stored(headers: Headers = (), body: bytes = b"{}") -> Stored:
    return Stored("e", "a", None, b"/", headers, body, 1, 1, 0.0, 0.0, 0.0, "normal", b"")


@pytest.mark.parametrize("name", [b"Authorization", b"cookie", b"X-API-Key", b"X-ApiKey", b"X-Auth-Token", b"X-Secret"])
def test_a_credential_that_is_sent_on_is_shown_to_nobody(name: bytes) -> None:
    assert content_of(stored(((name, b"hunter2"),)))["headers"] == ((name.decode(), "***"),)


def test_other_headers_are_shown_as_they_are() -> None:
    headers = ((b"Content-Type", b"application/json"), (b"X-Instance-Url", b"http://w1"), (b"X-Latin", b"gr\xfcn"))
    shown = (("Content-Type", "application/json"), ("X-Instance-Url", "http://w1"), ("X-Latin", "grün"))
    assert content_of(stored(headers))["headers"] == shown


def test_a_body_that_is_no_text_is_base64() -> None:
    content = content_of(stored(body=b"\xff"))
    assert (content["body"], content["body_base64"]) == (None, "/w==")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ('{"api_key": "hunter2","message":"hi"}', '{"api_key": "***","message":"hi"}'),
        ('{"api_key":"a\\"b","n":1}', '{"api_key":"***","n":1}'),
        ('{"data":{"fcm_token":12345}}', '{"data":{"fcm_token":"***"}}'),
        ('{"api_key":"cut', '{"api_key":"***"'),
        ("api_key=hunter2&message=hi", "api_key=***&message=hi"),
        ('{"message":"my token is here"}', '{"message":"my token is here"}'),
        ("the token=of a text", "the token=of a text"),
    ],
)
def test_what_is_a_secret_by_its_name_is_not_shown_of_a_body(body: str, shown: str) -> None:
    assert content_of(stored(body=body.encode()))["body"] == shown


def test_nor_of_a_query() -> None:
    assert masked("/api/messages/send?api_key=hunter2&x=1") == "/api/messages/send?api_key=***&x=1"


def test_a_large_body_is_looked_through_at_once() -> None:
    began = time.monotonic()
    masked("{" + '"' * 2**20 + "token" * 2**18)
    masked("{" + '"a"' + " " * 2**20)
    assert time.monotonic() - began < 5
