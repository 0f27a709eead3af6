"""`headers`, `idle` and `body` of routes to workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from sessions.registry import Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import Gate, Receiver, gateway, problem
from tests.heard import Heard
from tests.sessions.making import place
from tests.sluice.http.client.upstream import OK, Call

pytestmark = pytest.mark.anyio

TEXT = """
version: 1
store: {{url: "{store}", promise: memory}}
routes:
  - {{path: /api/sessions, methods: [POST], session: {{json: /session_id}}, workers: place, headers: {headers}}}
  - {{path: "/api/sessions/{{session}}/**", workers: owner, headers: {headers}, idle: 300ms, body: 1KiB}}
  - {{path: /api/messages/send, methods: [POST], session: {{json: /session_id}}, workers: owner}}
  - {{path: /api/messages/send-media, session: {{json: /session_id}}, workers: owner, idle: 300ms}}
  - {{path: /info, workers: any, headers: {headers}}}
# {laravel}
"""
SOON = 5.0


@pytest.fixture
async def hasty(tmp_path: Path, store_url: str, store: Store, laravel: Receiver) -> AsyncIterator[Gate]:
    """`laravel` is a worker here, which has the session s1."""
    registry = Registry(store, 60.0)
    await registry.register(Worker("a", "1", laravel.url, 5))
    await place(registry, "s1")
    async with gateway(tmp_path, store_url, laravel.url, headers="300ms", text=TEXT) as gate:
        yield gate


async def silent(call: Call) -> None:
    await call.gone()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/sessions/s1/x"), ("POST", "/api/sessions/s1/x"), ("POST", "/api/sessions"), ("GET", "/info")],
)
async def test_a_worker_has_the_time_of_the_route_for_its_answer(
    hasty: Gate, laravel: Receiver, heard: Heard, method: str, path: str
) -> None:
    laravel.play = silent
    began = time.monotonic()
    answer = await hasty.http.request(method, path, json={"session_id": "new"})
    assert problem(answer) == (504, "worker a did not answer in time")
    assert time.monotonic() - began < SOON
    (line,) = [fields for message, fields in heard.lines if message == "request"]
    assert line["why"] == "worker a did not answer in time: no response within 0.3 s"


async def test_a_worker_may_pause_within_its_answer_for_the_time_of_the_route(
    hasty: Gate, laravel: Receiver, heard: Heard
) -> None:
    async def pauses(call: Call) -> None:
        await call.head()
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
        await asyncio.sleep(SOON)

    laravel.play = pauses
    with pytest.raises(httpx2.RemoteProtocolError):
        await hasty.http.get("/api/sessions/s1/x")
    (broken,) = [fields for message, fields in heard.lines if message == "worker.broke_off"]
    assert broken["why"] == "broken off: no more of the body within 0.3 s"


async def test_a_worker_that_takes_nothing_of_a_body_has_the_time_of_the_route_for_that(
    hasty: Gate, laravel: Receiver
) -> None:
    async def deaf(call: Call) -> None:
        call.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(30)

    laravel.play = deaf
    media = b'{"session_id": "s1", "media": "%b"}' % (b"x" * 20 * 2**20)
    answer = await hasty.http.post("/api/messages/send-media", content=media)
    assert problem(answer) == (504, "worker a did not take the request in time")


async def test_a_body_may_have_what_the_route_says_and_else_what_workers_take(hasty: Gate, laravel: Receiver) -> None:
    answer = await hasty.http.post("/api/sessions/s1/x", content=b"x" * 1025)
    assert problem(answer) == (413, "the body is 1025 bytes, this route takes 1024 at most (`body:` of the route)")
    media = b'{"session_id": "s1", "media": "%b"}' % (b"x" * 20 * 2**20)
    laravel.response = OK
    assert (await hasty.http.post("/api/messages/send", content=media)).status_code == 200
    assert laravel.bodies == [media]
    answer = await hasty.http.post("/api/messages/send", content=b"x" * (50 * 2**20 + 1))
    assert answer.status_code == 413
