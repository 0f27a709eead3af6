from __future__ import annotations

import pytest

from relay.queue.codec import Headers, Stored
from sluice.console.actions.bodies import content_of


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
