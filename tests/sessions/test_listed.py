from __future__ import annotations

import time

import orjson
import pytest

from sessions.listed import MAX_BYTES, MAX_SESSIONS, Unusable, sessions_in
from sessions.registry import ObservedSession


def a_list(*items: object) -> bytes:
    return orjson.dumps({"success": True, "sessions": items})


@pytest.mark.parametrize("name", ["session_id", "sessionId", "id"])
@pytest.mark.parametrize("bare", [True, False])
def test_it_is_a_list_of_sessions_under_any_of_these_names(name: str, bare: bool) -> None:
    item = {name: "s1", "status": "qr_scanning", "phone_number": "628", "workspace_id": 7}
    listed = sessions_in(orjson.dumps([item]) if bare else a_list(item))
    assert listed.sessions == {"s1": ObservedSession("qr_scanning", "628", {"workspace_id": "7"})}
    assert (listed.odd, listed.example) == (0, "")


@pytest.mark.parametrize(
    ("item", "example"),
    [
        ({}, "{}"),
        (None, "null"),
        ("s2", '"s2"'),
        ({"session_id": ""}, '{"session_id":""}'),
        ({"session_id": True}, '{"session_id":true}'),
        ({"session_id": "s\n2"}, '{"session_id":"s\\n2"}'),
        ({"session_id": "\u202e2"}, '{"session_id":"\\u202e2"}'),
        ({"session_id": "x" * 201}, '{"session_id":"' + "x" * 65 + "…"),
    ],
)
def test_an_odd_item_is_counted_and_shown_escaped_and_the_others_count(item: object, example: str) -> None:
    listed = sessions_in(a_list({"session_id": "s1"}, item, {"session_id": "s3"}, item))
    assert list(listed.sessions) == ["s1", "s3"]
    assert (listed.odd, listed.example) == (2, example)


@pytest.mark.parametrize("value", [None, {}, [], True, "", "\x1b[2J", "x" * 201])
def test_what_is_odd_beside_the_name_is_left_out(value: object) -> None:
    item = {"session_id": "s1", "status": value, "phone_number": value, "workspace_id": value}
    assert sessions_in(a_list(item)).sessions == {"s1": ObservedSession("unknown", None, {})}


def test_a_session_that_is_there_twice_counts_once_as_the_first() -> None:
    listed = sessions_in(a_list({"id": "s1", "status": "connected"}, {"id": "s1", "status": "error"}))
    assert listed.sessions == {"s1": ObservedSession("connected")}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>", "the answer of GET /api/sessions is not JSON"),
        (b"", "the answer of GET /api/sessions is not JSON"),
        (b"[" * 100_000, "the answer of GET /api/sessions is not JSON"),
        (b"{}", "GET /api/sessions has no list of sessions"),
        (b'"no"', "GET /api/sessions has no list of sessions"),
        (b'{"sessions":{"s1":{}}}', "GET /api/sessions has no list of sessions"),
        (b" " * (MAX_BYTES + 1), "GET /api/sessions answered more than 4 MiB"),
        (
            orjson.dumps([{"id": i} for i in range(MAX_SESSIONS + 1)]),
            "GET /api/sessions lists 1,001 sessions, and 1,000 are the most",
        ),
    ],
)
def test_what_is_no_list_or_too_much_is_one_failed_look(body: bytes, why: str) -> None:
    with pytest.raises(Unusable) as caught:
        sessions_in(body)
    assert str(caught.value) == why


def test_a_list_of_countless_sessions_takes_little_time() -> None:
    for item in (b'{"id":"s%d"}', b'{"id":"s%d","status":"connected"}', b"{},%d"):
        body = b'{"sessions":[%b]}' % b",".join(item % n for n in range(100_000))
        begin = time.process_time()
        with pytest.raises(Unusable):
            sessions_in(body)
        assert time.process_time() - begin < 0.3
