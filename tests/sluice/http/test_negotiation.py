"""Who gets a page and who gets problem+json."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies

from sluice.http.fields import read_fields
from sluice.http.negotiation import accepted, accepted_by, accepted_in, wants_page

CHROME = (
    b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    b"application/signed-exchange;v=b3;q=0.7"
)


@pytest.mark.parametrize(
    "accept",
    [
        CHROME,
        b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        b"text/html",
        b"TEXT/HTML; Charset=utf-8",
        b"text/*",
        b"application/json;q=0.5, text/html",
        b"text/html;q=0.2, application/json;q=0.1",
        b"*/*, application/json;q=0.5, application/problem+json;q=0.5",
        b"*/*;q=0.1, text/html",
        b"*/*;q=0.1, text/*;q=0.2",
        b'application/json;v="a,b";q=0.3, text/html;v=","',
        b"text/html ; q=0.9 , */* ; q=0.8",
        b"text/vnd.turbo-stream.html, text/html, application/xhtml+xml",
    ],
)
def test_who_prefers_html_is_a_person(accept: bytes) -> None:
    assert wants_page(accept)


@pytest.mark.parametrize(
    "accept",
    [
        b"",
        b"*/*",
        b"application/json",
        b"application/json, text/plain, */*",
        b"text/html, application/json",
        b"application/problem+json, text/html",
        b"text/html;q=0.9, application/json",
        b"text/html;q=0, */*;q=0",
        b"text/html;q=0.5, application/*;q=0.6",
        b"text/html;q=2",
        b"text/html;q=high",
        b"text/plain",
        b"image/*",
        b",,;;,",
        b"text",
        b"text/html, */*" + b" " * 3000,
    ],
)
def test_everybody_else_is_a_program(accept: bytes) -> None:
    assert not wants_page(accept)


@given(strategies.binary(max_size=4000) | strategies.lists(strategies.sampled_from([*b'/*;,=q0.1"\\ \t'])).map(bytes))
def test_nothing_that_is_accepted_is_too_much(accept: bytes) -> None:
    began = time.process_time()
    wants_page(accept)
    assert time.process_time() - began < 0.5


def test_several_fields_count_as_one_list() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\naccept:application/json\r\nX-Accept: x\r\n\r\n"
    fields = read_fields(head[16:-4])
    pairs = [(field.key, field.value) for field in fields.all]
    assert accepted(pairs) == accepted_by(fields) == accepted_in(head) == b"text/html,application/json"
