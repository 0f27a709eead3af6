"""What a relay only carries it carries byte for byte, however its sender has written it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from redis import Redis

from gateway.policies import Policies
from relay.deliver.sender import Sender
from relay.process import open_queue
from relay.queue.codec import Delivery
from relay.queue.queue import Queue
from sessions.registry import Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import POLICIES, Gate, Receiver, gateway, lines, problem, values

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
    await Registry(store, 600.0).register(Worker("a", "1", laravel.url, 5))
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


# --- the headers

CREDENTIALS = {
    "Authorization": "Bearer of-the-worker",
    "Cookie": "session=of-the-worker",
    "X-API-Key": "of-the-worker",
    "Proxy-Authorization": "of-the-worker",
    "X_Api_Key": "of-the-worker",
}
OF_THE_EVENT = {
    "Content-Type": "application/json",
    "Content-Language": "en",
    "X-Instance-Url": "http://localhost:3001",
    "X-Tenant": "t1",
    "X-Forwarded-For": "6.6.6.6",
}


async def stored(folder: Path, store_url: str, store: Store, url: str, **forward: str) -> tuple[Policies, Delivery]:
    """What becomes of one webhook with all these headers. `forward`: what each endpoint of its route names."""
    rows = "".join(f'    {name}: {{{{url: "{url}", sign: workers{more}}}}}\n' for name, more in forward.items())
    text = re.sub(r"    laravel: ..url: .*sign: workers..\n", lambda _: rows, POLICIES)
    text = text.replace("relay: laravel}}", f"relay: [{', '.join(forward)}]}}}}")
    async with gateway(folder, store_url, url, text=text) as gate:
        answer = await gate.post_event(headers=CREDENTIALS | OF_THE_EVENT)
        assert answer.status_code == 202, answer.text
        queue = open_queue(store, gate.policies.relay.endpoints[next(iter(forward))], gate.policies)
        queue.look_everywhere()
        (delivery,) = (await queue.poll([], 10)).leased
        return gate.policies, delivery


def names(delivery: Delivery) -> set[str]:
    return {name.decode().lower() for name, _ in delivery.headers}


async def test_what_a_sender_proves_himself_with_is_not_even_stored(
    tmp_path: Path, store_url: str, store: Store, laravel: Receiver
) -> None:
    _, delivery = await stored(tmp_path, store_url, store, laravel.url, laravel="")
    assert names(delivery) == {"content-type", "content-language", "x-sluice-via"}
    with Redis.from_url(store_url) as redis:
        kept = b"".join(value for key in redis.scan_iter("sl:*:events") for value in redis.hvals(key))
    assert kept
    assert b"of-the-worker" not in kept


async def test_an_endpoint_gets_what_it_names_and_another_one_of_the_route_does_not(
    tmp_path: Path, store_url: str, store: Store, laravel: Receiver
) -> None:
    forward = {
        "laravel": ", forward: [x-instance-url, X-Forwarded-For]",
        "crm": ", forward: [X-Tenant, authorization]",
        "archive": "",
    }
    policies, delivery = await stored(tmp_path, store_url, store, laravel.url, **forward)
    always = {"content-type", "content-language", "x-sluice-via"}
    named = {"x-instance-url", "x-forwarded-for", "x-tenant", "authorization"}
    assert names(delivery) == always | named
    for endpoint in policies.relay.endpoints.values():
        sender = Sender(endpoint, policies.signatures["workers"])
        await sender.post(delivery)
        await sender.close()
    ours = {"host", "content-length", "accept-encoding", "x-hmac-signature", "x-timestamp", "webhook-id"}
    got = [
        {line.partition(b":")[0].decode().lower() for line in lines(head)[1:]} - always - ours - {"x-sluice-attempt"}
        for head in laravel.heads
    ]
    assert got == [{"x-instance-url", "x-forwarded-for"}, {"x-tenant", "authorization"}, set()]
    assert values(laravel.heads[0], b"x-forwarded-for") == [b"127.0.0.1"]
