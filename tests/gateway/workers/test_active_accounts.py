from __future__ import annotations

import json

import pytest

from gateway.workers.active_accounts import ActiveAccounts, Unreadable, read


def found(body: bytes) -> ActiveAccounts:
    accounts = read(body)
    assert accounts is not None
    return accounts


def listing(*items: object) -> bytes:
    return json.dumps({"success": True, "sessions": items, "count": len(items)}).encode()


def names(accounts: ActiveAccounts) -> list[tuple[str, int]]:
    return [(account.session, account.workspace) for account in accounts.accounts]


PRETTY = b"""
{ "success" : true, "a\\u00e9\xff": 1e400, "sessions" : [
  {"session_id": "s1", "phone_number": "\\ud83d",  "workspace_id": 7 } ,
  {"session_id":"s2","workspace_id":"8","x":[{"session_id":"s3"}]}
], "count":2 ,"more":{"count":2,"sessions":[]}}
"""


def test_all_but_the_list_and_its_count_stays_as_it_was_byte_for_byte() -> None:
    accounts = found(PRETTY)
    assert names(accounts) == [("s1", 7), ("s2", 8)]
    assert accounts.only({"s1"}) == (
        b'\n{ "success" : true, "a\\u00e9\xff": 1e400, "sessions" : '
        b'[{"session_id": "s1", "phone_number": "\\ud83d",  "workspace_id": 7 }]'
        b', "count":1 ,"more":{"count":2,"sessions":[]}}\n'
    )
    assert json.loads(accounts.only({"s2"}).decode("utf-8", "replace"))["sessions"][0]["x"] == [{"session_id": "s3"}]
    assert b'"sessions" : [], "count":0 ,' in accounts.only(())


@pytest.mark.parametrize(
    ("item", "account"),
    [
        ({"session_id": "s1", "workspace_id": 3}, [("s1", 3)]),
        ({"session_id": "s1", "workspace_id": "3", "provider_type": "webjs"}, [("s1", 3)]),
        ({"session_id": "s1"}, [("s1", 0)]),
        ({"session_id": "s1", "workspace_id": None, "provider_type": None}, [("s1", 0)]),
        ({"session_id": "s1", "workspace_id": -1}, [("s1", 0)]),
        ({"session_id": "s1", "workspace_id": True}, [("s1", 0)]),
        ({"session_id": "s1", "workspace_id": 2**80}, [("s1", 0)]),
        ({"session_id": "s1", "provider_type": "meta"}, []),
        ({"session_id": None}, []),
        ({"session_id": 17}, []),
        ({"session_id": ""}, []),
        ({"session_id": "a\nb"}, []),
        ({"session_id": "\ud800"}, []),
        ({"session_id": "x" * 201}, []),
        ({}, []),
        ("s1", []),
        (None, []),
    ],
)
def test_what_is_no_session_for_a_worker_is_given_to_none(item: object, account: list[tuple[str, int]]) -> None:
    accounts = found(listing(item))
    assert names(accounts) == account
    assert accounts.left_out == 1 - len(account)
    assert json.loads(accounts.only({"s1"}))["sessions"] == [item][: len(account)]


def test_a_session_that_is_there_twice_is_started_once() -> None:
    accounts = found(listing({"session_id": "s1", "id": 1}, {"session_id": "s1", "id": 2}))
    assert json.loads(accounts.only({"s1"})) == {
        "success": True,
        "sessions": [{"session_id": "s1", "id": 1}],
        "count": 1,
    }


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"success":false}',
        b'{"sessions":{"1":{"session_id":"s1"}}}',
        b'{"sessions":null}',
        b'[{"session_id":1}]',
        b"1",
    ],
)
def test_without_a_list_of_sessions_nobody_starts_any(body: bytes) -> None:
    assert read(body) is None


def test_a_count_that_is_no_number_stays() -> None:
    assert found(b'{"count":"1","sessions":[]}').only(()) == b'{"count":"1","sessions":[]}'


def test_a_byte_order_mark_is_passed_over() -> None:
    assert found(b"\xef\xbb\xbf" + listing({"session_id": "s1"})).only(()).startswith(b'\xef\xbb\xbf{"success"')


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<!DOCTYPE html>", "it is not JSON"),
        (b"", "it is not JSON"),
        (b'{"sessions":[{"session_id":"s1"}]', "it is not JSON"),
        (b'{"sessions":[{"session_id":"s1"}] "count":1}', "it is not JSON (no , at 34)"),
        (b'{"sessions" [{"session_id":"s1"}]}', "it is not JSON (no : at 12)"),
        (b'{"sessions":[{"session_id":"s1"}]} x', "it is not JSON (more follows)"),
        (b'{"sessions":[{"session_id":"s1"}],"sessions":[]}', "it has two lists of sessions"),
        (b'{"sessions":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is nested too deeply"),
        (b"\x1f\x8b\x08\x00", "it is not JSON"),
    ],
)
def test_what_cannot_be_read_is_not_guessed_at(body: bytes, why: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(body)
    assert str(caught.value).startswith(why)
