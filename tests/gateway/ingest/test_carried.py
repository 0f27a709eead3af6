"""What a relay only carries it carries byte for byte, however its sender has written it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.queue.queue import Queue
from sessions.registry import Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import POLICIES, Gate, Receiver, gateway, problem

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "body",
    [
        rb'{"event": "message_sent", "data": {"session_id": "s1", "body": "cut \ud83d"}}',
        b'\xef\xbb\xbf{"event": "message_sent", "data": {"session_id": "s1"}}',
        b'{"event": "message_sent", "data": {"session_id": "s1", "n": 1e9999, "m": -1E+400}}',
        b'{"event": "message_sent", "data": {"session_id": "s1", "body": "\xff"}}',
    ],
)
async def test_it_is_stored_as_it_came(gate: Gate, queue: Queue, body: bytes) -> None:
    answer = await gate.post_event(body=body)
    assert answer.status_code == 202, answer.text
    queue.look_everywhere()
    (delivery,) = (await queue.poll([], 10)).leased
    assert (delivery.body, delivery.session, delivery.type) == (body, "s1", "message_sent")


async def test_a_name_that_is_cut_in_an_emoji_can_be_stored_and_shown(gate: Gate, queue: Queue) -> None:
    answer = await gate.post_event(body=rb'{"event": "message_sent", "data": {"session_id": "s\ud83d"}}')
    assert answer.status_code == 202
    queue.look_everywhere()
    (delivery,) = (await queue.poll([], 10)).leased
    assert delivery.session == "s�"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "the body is not JSON (unexpected end of data: line 1 column 2 (char 1))"),
        (b"\x1f\x8b\x08", "the body is not JSON (it is compressed with gzip)"),
    ],
)
async def test_where_a_name_cannot_be_read_at_all_the_reason_is_exact(gate: Gate, body: bytes, why: str) -> None:
    wanted = f"{why}; this route reads /event and /data/session_id from it"
    assert problem(await gate.post_event(body=body)) == (400, wanted)


async def test_half_an_emoji_in_what_is_remembered_of_a_new_session_fails_nothing(
    gate: Gate, store: Store, laravel: Receiver
) -> None:
    await Registry(store, 15.0).register(Worker("a", "1", laravel.url, 5))
    content = rb'{"session_id": "s1", "workspace_id": "\ud83d", "priority": 1e9999}'
    assert (await gate.http.post("/api/sessions", content=content)).status_code == 200
    assert laravel.bodies == [content]


@pytest.mark.parametrize(
    ("unreadable", "statuses"),
    [("refuse", [200, 400, 400, 429]), ("max", [200, 429, 429, 429]), ("1", [200, 200, 429, 429])],
)
async def test_a_limit_says_what_a_request_costs_whose_cost_cannot_be_read(
    tmp_path: Path, store_url: str, store: Store, laravel: Receiver, unreadable: str, statuses: list[int]
) -> None:
    cost = f"{{{{json: /to, unreadable: {unreadable}}}}}"
    limit = f"  - {{{{id: many, event: limited, rate: 1/hour, burst: 3, cost: {cost}}}}}\n"
    text = re.sub(r"  - ..id: limited, .*\n", limit, POLICIES)
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
        bodies = (b'{"to": {"a": 1, "b": 2}}', b"\x1f\x8b", b'{"to": "a,b"}', b'{"to": [1, 2]}')
        answers = [await gate.http.post("/limited/x", content=body) for body in bodies]
    assert [answer.status_code for answer in answers] == statuses
    if unreadable == "refuse":
        assert [problem(answer)[1].partition("; /to must")[0] for answer in answers[1:3]] == [
            "what this costs of limit many cannot be read: the body is not JSON",
            "what this costs of limit many cannot be read: /to is a string",
        ]
