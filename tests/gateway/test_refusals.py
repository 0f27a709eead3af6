"""Every 429 tells how long to wait, and its rate-limit fields, whoever gets it and by whichever way it was decided."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.gateway.running import Gate, Receiver, gateway, lines
from tests.gateway.store_link import Link, link_to

pytestmark = [pytest.mark.anyio, pytest.mark.every_server]

POLICIES = """
version: 1
store: {{url: "{store}", promise: memory, timeout: 250ms}}
upstreams:
  laravel: {{url: "{laravel}", connect: 1s, headers: {headers}, idle: 10s}}
signatures:
  workers: {{preset: blazz, secret: env:SECRET, tolerance: 5m}}
routes:
  - {{path: /hooks/*, methods: [POST], verify: workers, event: {{json: /event}}, session: {{json: /data/session_id}},
     body: 1KiB, relay: laravel}}
  - {{path: /send/**, methods: [POST], event: send, upstream: laravel}}
  - {{path: /unread/**, methods: [POST], session: {{json: /session}}, event: unread, upstream: laravel}}
  - {{path: /live/**, event: live, upstream: laravel}}
  - {{path: /typed/**, event: typed, upstream: laravel}}
limit_headers: [ratelimit, x-ratelimit]
limits:
  - {{id: send, event: send, rate: 1/4 seconds, burst: 4, cost: {{json: /to}}}}
  - {{id: unread, event: unread, rate: 1/3 seconds, burst: 1}}
  - {{id: live, event: live, rate: 1/3 seconds, burst: 1}}
  - {{id: typed, event: typed, rate: 1/3 seconds, burst: 1, over: drop}}
  - {{id: hook, event: [message_*], per: [session], rate: 1/3 seconds, burst: 1}}
  - {{id: wide, rate: 1000/second, burst: 1000}}
relay:
  endpoints:
    laravel: {{url: "{laravel}", sign: workers}}
"""
HANDSHAKE = b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"


@pytest.fixture
async def gate(tmp_path: Path, store_url: str, laravel: Receiver) -> AsyncIterator[Gate]:
    async with gateway(tmp_path, store_url, laravel.url, text=POLICIES) as gate:
        yield gate


def wait_told(headers: Mapping[str, str], limit: str) -> int:
    """Retry-After of a refusal, whose fields must be whole and agree with it."""
    wait = int(headers["retry-after"])
    assert headers["ratelimit-policy"].startswith(f'"{limit}";q=')
    left, seconds = re.fullmatch(rf'"{limit}";r=(\d+);t=(\d+)', headers["ratelimit"]).groups()  # type: ignore[union-attr]
    assert int(seconds) in (wait, wait - 1), "they are rounded up, each for itself"
    assert int(headers["x-ratelimit-limit"]) in (1, 4)
    assert headers["x-ratelimit-remaining"] == left
    return wait


@pytest.mark.slow
async def test_the_first_and_every_remembered_refusal_is_for_its_own_cost(gate: Gate) -> None:
    async def send(recipients: int) -> tuple[int, Mapping[str, str]]:
        answer = await gate.http.post("/send/x", json={"to": recipients})
        return answer.status_code, answer.headers

    assert (await send(4))[0] == 200
    for _ in range(3):
        for recipients in (1, 2, 4, 2):
            status, headers = await send(recipients)
            assert status == 429
            assert 4 * recipients - 3 <= wait_told(headers, "send") <= 4 * recipients
    await asyncio.sleep(wait_told((await send(1))[1], "send"))
    assert (await send(1))[0] == 200


@pytest.mark.slow
async def test_a_webhook_is_told_as_much(gate: Gate) -> None:
    assert (await gate.post_event("message_received")).status_code == 202
    for _ in range(3):
        wait = wait_told((await gate.post_event("message_received")).headers, "hook")
    await asyncio.sleep(wait)
    assert (await gate.post_event("message_received")).status_code == 202


@pytest.mark.slow
async def test_what_is_refused_before_its_body_is_read_is_told_as_much(gate: Gate) -> None:
    assert (await gate.http.post("/unread/x", json={"session": "s1"})).status_code == 200
    for _ in range(3):
        wait = wait_told((await gate.http.post("/unread/x", json={"session": "s1"})).headers, "unread")
    await asyncio.sleep(wait)
    assert (await gate.http.post("/unread/x", json={"session": "s1"})).status_code == 200


@pytest.mark.parametrize("kind", ["live", "typed"])
async def test_a_websocket_that_is_refused_is_told_as_much(gate: Gate, kind: str) -> None:
    assert (await gate.http.get(f"/{kind}/x")).status_code == 200
    for _ in range(3):
        async with gate.raw(f"GET /{kind}/x HTTP/1.1\r\n".encode(), HANDSHAKE, KEY) as client:
            head = lines(await client.head())
        assert head[0].split()[1] == b"429"
        fields = [line.decode().partition(": ") for line in head[1:]]
        assert wait_told({name.lower(): value for name, _, value in fields}, kind) <= 3


@pytest.fixture
async def link(store_url: str) -> AsyncIterator[Link]:
    async with link_to(store_url) as link:
        yield link


@pytest.mark.slow
@pytest.mark.our_server("the store is away from each of them alike")
async def test_without_the_store_a_refusal_is_told_as_much(tmp_path: Path, laravel: Receiver, link: Link) -> None:
    async with gateway(tmp_path, link.url, laravel.url, text=POLICIES) as gate:
        link.block()
        assert (await gate.http.post("/send/x", json={"to": 4})).status_code == 200
        for recipients in (1, 2, 4):
            refused = await gate.http.post("/send/x", json={"to": recipients})
            assert refused.status_code == 429
            assert 4 * recipients - 3 <= wait_told(refused.headers, "send") <= 4 * recipients
        refused = await gate.http.post("/send/x", json={"to": 1})
        await asyncio.sleep(wait_told(refused.headers, "send"))
        assert (await gate.http.post("/send/x", json={"to": 1})).status_code == 200
        link.mend()
