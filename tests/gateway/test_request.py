from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.policies import (
    EventSource,
    Fixed,
    Header,
    JsonPointer,
    PathSegment,
    SessionSource,
    ToRelay,
)
from gateway.problems import Refusal
from gateway.request import (
    Head,
    Json,
    Reading,
    head_of,
    json_if_any,
    name_from,
    parse_json,
    reading_of,
    refuse_host,
)
from sluice.http.server.head import read_head
from sluice.http.via import Via
from tests.gateway import making
from tests.gateway.making import TRUST

HOST = (b"host", b"shop.example")


def a_head(*headers: tuple[bytes, bytes], target: bytes = b"/") -> Head:
    return making.a_head(HOST, *headers, target=target)


# --- the head


def test_an_old_request_that_names_no_host_is_refused() -> None:
    old = head_of(read_head(b"GET / HTTP/1.0\r\n\r\n"), "192.0.2.7", "http", TRUST, Via())
    with pytest.raises(Refusal) as caught:
        refuse_host(old, ())
    assert (caught.value.status, caught.value.detail) == (400, "a request has exactly one Host header")


@pytest.mark.parametrize("host", [b"shop.example", b"SHOP.example", b"shop.example:8080", b"[::1]", b"[::1]:8080"])
def test_listed_hosts_are_served_with_any_port(host: bytes) -> None:
    refuse_host(making.a_head((b"Host", host)), ("shop.example", "[::1]"))


@pytest.mark.parametrize("host", [b"evil.example", b"shop.example.evil", b"xshop.example", b"[::2]:8080"])
def test_a_host_that_is_not_listed_is_refused(host: bytes) -> None:
    with pytest.raises(Refusal, match=r"trust\.hosts") as caught:
        refuse_host(making.a_head((b"Host", host)), ("shop.example", "[::1]"))
    assert caught.value.status == 400


def test_a_head_keeps_bytes_order_and_repeats() -> None:
    headers = [(b"cookie", b"a=\xe9"), (b"x", b"1"), (b"cookie", b"b=2")]
    head = a_head(*headers, target=b"/a%2Fb?b=1&a=2")
    assert head.headers == [HOST, *headers]
    assert head.target == b"/a%2Fb?b=1&a=2"
    assert (head.value(b"x"), head.value(b"cookie"), head.value(b"y")) == (b"1", None, None)


def test_what_is_forwarded_is_end_to_end_and_ours_comes_last() -> None:
    head = a_head(
        (b"connection", b"close, X-Hop"),
        (b"connection", b"x-hop2"),
        (b"x-hop", b"1"),
        (b"x-hop2", b"1"),
        (b"keep-alive", b"5"),
        (b"te", b"trailers"),
        (b"upgrade", b"h2c"),
        (b"expect", b"100-continue"),
        (b"proxy-authorization", b"x"),
        (b"x-real-ip", b"10.0.0.1"),
        (b"forwarded", b"for=10.0.0.1"),
        (b"x-sluice-fence", b"99"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"accept", b"*/*"),
    )
    assert [(field.name, field.value) for field in head.forwarded()] == [
        HOST,
        (b"accept", b"*/*"),
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"80"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Sluice-Via", head.via.value),
    ]


def test_connection_cannot_take_away_what_says_where_a_request_goes_and_ends() -> None:
    head = a_head((b"connection", b"host, content-length"), (b"content-length", b"3"))
    names = [field.key for field in head.forwarded()]
    assert names[:2] == [b"host", b"content-length"]


# --- JSON


DOCUMENT = Json(
    {
        "event": "typing",
        "data": {"session_id": "s1", "a/b": 1, "m~n": 2, "~1": 3, "": 4, "null": None},
        "list": ["zero", {"deep": "one"}],
        "": "empty",
    }
)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", DOCUMENT.value),
        ("/event", "typing"),
        ("/data/session_id", "s1"),
        ("/data/a~1b", 1),
        ("/data/m~0n", 2),
        ("/data/~01", 3),
        ("/data/", 4),
        ("/", "empty"),
        ("/list/0", "zero"),
        ("/list/1/deep", "one"),
    ],
)
def test_a_pointer_leads_where_rfc_6901_says(pointer: str, value: object) -> None:
    assert DOCUMENT.at(pointer) == value


@pytest.mark.parametrize(
    "pointer",
    [
        "/nothing",
        "/event/x",
        "/data/null",
        "/data/null/x",
        "/list/2",
        "/list/-",
        "/list/-1",
        "/list/01",
        "/list/²",
        "/list/x",
    ],
)
def test_a_pointer_to_nothing_leads_nowhere(pointer: str) -> None:
    assert DOCUMENT.at(pointer) is None


@pytest.mark.parametrize("value", [None, 1, "text", [], True])
def test_a_pointer_into_something_else_leads_nowhere(value: object) -> None:
    assert Json(value).at("/event") is None


@pytest.mark.parametrize("body", [b"", b"{", b"event=typing", b"\xff", b'{"a":NaN}'])
def test_a_body_that_is_not_json_is_refused_with_what_it_is_needed_for(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_json(body, "this route reads /event from it")
    assert caught.value.status == 400
    assert caught.value.detail.startswith("the body is not JSON (")
    assert caught.value.detail.endswith("; this route reads /event from it")


def reading(*costs: JsonPointer, **route: Any) -> Reading:
    return reading_of(replace(making.a_route("/x"), **route), costs)


def test_a_body_is_read_only_where_something_is_looked_for_in_it() -> None:
    assert reading(event=Header("X-Event"), session=PathSegment("session")) == Reading(False, None, False)
    assert reading(verify="workers") == Reading(True, None, False)
    assert reading(action=ToRelay("laravel")) == Reading(True, None, False)
    assert reading(event=JsonPointer("/event"), session=JsonPointer("/s")) == Reading(
        True, "this route reads /event and /s from it", False
    )
    assert reading(JsonPointer("/to")) == Reading(True, None, True)
    assert reading(JsonPointer("/to"), workspace=JsonPointer("/w")) == Reading(
        True, "this route reads /w from it", True
    )


@pytest.mark.parametrize("body", [b"{", b"a=b"])
def test_a_body_that_is_only_looked_into_for_a_cost_may_be_anything(body: bytes) -> None:
    assert json_if_any(body) == Json(None, readable=False)
    assert json_if_any(b"") is None


def test_a_number_names_a_workspace_as_it_is_written() -> None:
    assert name_from(JsonPointer("/w"), a_head(), {}, Json({"w": 42}), "workspace") == "42"


# --- names


def named(source: EventSource | SessionSource | None, *headers: tuple[bytes, bytes], body: object = None) -> str | None:
    return name_from(source, a_head(*headers), {"session": "s1", "empty": ""}, Json(body), "session")


def test_a_name_is_found_where_its_source_says() -> None:
    assert named(None) is None
    assert named(Fixed("message_send")) == "message_send"
    assert named(PathSegment("session")) == "s1"
    assert named(Header("X-Session"), (b"x-session", "bäcker".encode())) == "bäcker"
    assert named(JsonPointer("/a"), body={"a": "s2"}) == "s2"


@pytest.mark.parametrize("source", [Header("X-Session"), JsonPointer("/a"), PathSegment("empty"), PathSegment("other")])
def test_a_name_that_is_not_there_is_none(source: SessionSource) -> None:
    assert named(source, (b"x-session", b""), body={"a": ""}) is None
    assert named(source, body=["a"]) is None


def test_a_header_that_is_there_twice_names_nothing() -> None:
    assert named(Header("X-Session"), (b"x-session", b"a"), (b"x-session", b"b")) is None


@pytest.mark.parametrize("value", [7, True, 1.5, ["a"], {"a": "b"}])
def test_a_name_that_is_no_string_is_refused(value: object) -> None:
    with pytest.raises(Refusal, match="the session is not a string") as caught:
        named(JsonPointer("/a"), body={"a": value})
    assert caught.value.status == 400


@pytest.mark.parametrize("value", ["x" * 201, "a\nb", "a\x00", "a\x7f", "a\u2028b", "\ud800"])
def test_a_name_that_is_too_long_or_not_printable_is_refused(value: str) -> None:
    with pytest.raises(Refusal) as caught:
        named(JsonPointer("/a"), body={"a": value})
    assert caught.value.status == 400


def test_a_name_of_200_characters_is_one() -> None:
    assert named(JsonPointer("/a"), body={"a": "ä" * 200}) == "ä" * 200
