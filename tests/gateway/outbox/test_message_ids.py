"""Webhooks about a message get another id for it, and keep every other byte."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from gateway.outbox.message_ids import MAX_BODY, POINTERS, id_in, renamed
from gateway.request import Json

WORKERS, OURS = "true_62812@c.us_3EB0", "evt_7"


def data_of(event: str, identity: object, **more: object) -> dict[str, Any]:
    """As the contract has it."""
    if event == "message_sent":
        return {
            "workspace_id": 1,
            "session_id": "s1",
            "message": {"id": identity, "body": "hi", **more},
            "source": "api",
        }
    return {"workspace_id": 1, "session_id": "s1", "message_id": identity, "status": "read", **more}


@pytest.mark.parametrize("event", POINTERS)
def test_each_event_of_the_contract_about_a_sent_message_is_given_our_id(event: str) -> None:
    body = json.dumps({"event": event, "data": data_of(event, WORKERS)}).encode()
    assert id_in(event, Json(orjson.loads(body))) == WORKERS
    assert renamed(event, body, WORKERS, OURS) == body.replace(WORKERS.encode(), OURS.encode())


@pytest.mark.parametrize("event", POINTERS)
@pytest.mark.parametrize("identity", [None, 7, "", {"_serialized": WORKERS}, [WORKERS]])
def test_what_is_no_name_of_a_message_is_none(event: str, identity: object) -> None:
    assert id_in(event, Json({"event": event, "data": data_of(event, identity)})) is None
    assert id_in(event, Json({"event": event})) is None


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b' {"data" :{"message_id"\t: "W" , "x": 1e9999}}\n', b' {"data" :{"message_id"\t: "O" , "x": 1e9999}}\n'),
        (b'\xef\xbb\xbf{"data":{"message_id":"W"}}', b'\xef\xbb\xbf{"data":{"message_id":"O"}}'),
        (b'{"data":{"message_id":"\\u0057"}}', b'{"data":{"message_id":"O"}}'),
        (b'{"data":{"message\\u005fid":"W"}}', b'{"data":{"message\\u005fid":"O"}}'),
        (rb'{"b":"cut \ud83d","data":{"message_id":"W"}}', rb'{"b":"cut \ud83d","data":{"message_id":"O"}}'),
        (b'{"b":"\xff","data":{"message_id":"W"}}', b'{"b":"\xff","data":{"message_id":"O"}}'),
        (
            b'{"data":{"a":[{"message_id":"W"}],"message_id":"W"}}',
            b'{"data":{"a":[{"message_id":"W"}],"message_id":"O"}}',
        ),
        (b'{"message_id":"W","data":{"message_id":"W"}}', b'{"message_id":"W","data":{"message_id":"O"}}'),
        (
            b'{"data":{"body":"\\"message_id\\":\\"W\\"","message_id":"W"}}',
            b'{"data":{"body":"\\"message_id\\":\\"W\\"","message_id":"O"}}',
        ),
        (b'{"data":{"message_id":"V","message_id":"W"}}', b'{"data":{"message_id":"V","message_id":"O"}}'),
        (b'{"data":{"a":{"message_id":"W"},"message_id":"V"}}', None),
        (b'{"data":[{"message_id":"W"}]}', None),
        (b'{"data":{"message_id":["W"]}}', None),
        (b'["data","message_id","W"]', None),
    ],
)
def test_only_what_stands_in_that_place_is_replaced(body: bytes, changed: bytes | None) -> None:
    assert renamed("message_read", body, "W", "O") == changed


def test_an_id_that_cannot_stand_there_as_it_is_is_not_written() -> None:
    assert renamed("message_read", b'{"data":{"message_id":"W"}}', "W", 'a"b') is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":{"message_id":"W"}, "x":"%b"}' % (b"y" * MAX_BODY),
        b'{"x":[%b1],"data":{"message_id":"W"}}' % (b"1," * 30_000),
    ],
)
def test_what_is_too_long_to_be_looked_into_stays_as_it_is(body: bytes) -> None:
    assert renamed("message_read", body, "W", "O") is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(), VALUES, max_size=4),
    st.dictionaries(st.text(), VALUES, max_size=4),
    st.text(min_size=1),
    st.booleans(),
    st.sampled_from([None, 2]),
)
def test_nothing_else_changes_in_any_webhook(
    outer: dict[str, Any], inner: dict[str, Any], old: str, ascii_only: bool, indent: int | None
) -> None:
    told = {**outer, "data": {**inner, "message_id": old}}
    text = json.dumps(told, ensure_ascii=ascii_only, indent=indent)
    changed = renamed("message_read", text.encode(), old, OURS)
    assert changed is not None
    quoted = json.dumps(old, ensure_ascii=ascii_only).encode()
    at = next(i for i, (a, b) in enumerate(zip(text.encode(), changed, strict=False)) if a != b) if old != OURS else 0
    assert json.loads(changed) == {**outer, "data": {**inner, "message_id": OURS}}
    assert len(changed) == len(text.encode()) - len(quoted) + len(OURS) + 2
    assert changed[:at] == text.encode()[:at]
