"""What a worker answers, and what a client sends, stops the event loop and fills the memory only within bounds."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest

from sessions.registry import ObservedSession, Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import POLICIES, Gate, Receiver, gateway, problem, receiver, values
from tests.pulse import pulse

pytestmark = pytest.mark.anyio

MIB = 2**20
PAUSE = 0.25
"""Seconds of CPU; it took one to five."""
BOMB = gzip.compress(b" " * (64 * MIB), 9)
STATUS = b'{"session_id":"s1","status":"connected","phone_number":"49"}'


def answer(body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields, b"", body])


@pytest.fixture
async def worker(store: Store) -> AsyncIterator[Receiver]:
    """An existing one, w1, with the session s1."""
    async with receiver() as made:
        await Registry(store, 600.0).observe(
            Worker("w1", "observed", made.url, 25), {"s1": ObservedSession("connected")}
        )
        yield made


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("body", [BOMB, b" " * (8 * MIB), b'{"sessions":[' + b"{}," * 20_000 + b"{}]}"])
async def test_a_health_that_is_compressed_or_large_is_not_unpacked(gate: Gate, worker: Receiver, body: bytes) -> None:
    worker.response = answer(body, b"Content-Encoding: gzip" if body is BOMB else b"Content-Type: application/json")
    await gate.http.get("/health/live")
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    async with pulse() as loop:
        told = (await gate.http.get("/health")).json()
    assert told["workers"] == {"total": 1, "answered": 0}
    assert values(worker.heads[0], b"accept-encoding") == [b"identity"]
    assert tracemalloc.get_traced_memory()[1] - before < len(body) + 4 * MIB, "what waits to be sent, and little more"
    assert loop.longest < PAUSE


async def test_of_a_workers_memory_a_few_numbers_are_kept(gate: Gate, worker: Receiver) -> None:
    sessions = {"total": 1, "connected": 1, "disconnected": 0}
    memory = {f"part {n}": 1 for n in range(4000)} | {"x" * 1000: 1}
    worker.response = answer(orjson.dumps({"sessions": sessions, "memory": memory}))
    told = (await gate.http.get("/health")).json()
    assert (told["sessions"], len(told["memory"])) == (sessions, 16)


async def test_a_status_is_asked_for_as_it_can_be_read(gate: Gate, worker: Receiver) -> None:
    """Compressed, it could neither be looked into nor be given again later."""
    worker.response = answer(STATUS)
    told = await gate.http.get("/api/sessions/s1/status", headers={"Accept-Encoding": "gzip, br"})
    assert (told.status_code, told.content) == (200, STATUS)
    assert values(worker.heads[0], b"accept-encoding") == [b"identity"]


async def test_what_is_only_passed_on_is_asked_for_as_the_client_wants_it(gate: Gate, worker: Receiver) -> None:
    worker.response = answer(BOMB, b"Content-Encoding: gzip", b"Content-Type: text/plain")
    async with gate.raw(b"GET /api/sessions/s1/qr HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n") as client:
        await client.head()
        assert await client.exactly(len(BOMB)) == BOMB
    assert values(worker.heads[0], b"accept-encoding") == [b"gzip"]


@pytest.mark.usefixtures("traced")
async def test_a_body_of_countless_values_is_refused_before_they_are_made(
    tmp_path: Path, store_url: str, laravel: Receiver
) -> None:
    routes = POLICIES.replace("event: message_send, workers", "event: message_send, body: 40MiB, workers")
    async with gateway(tmp_path, store_url, laravel.url, text=routes) as gate:
        body = b"[" + b"{}," * (32 * MIB // 3) + b"{}]"
        async with pulse() as loop:
            refused = await gate.http.post(
                "/api/messages/send", content=body, headers={"Content-Type": "application/json"}
            )
        why = "the body is not JSON (it has over 250,000 values); this route reads /session_id from it"
        assert problem(refused) == (400, why)
        assert tracemalloc.get_traced_memory()[1] < 160 * MIB, "the body itself, here and in the client"
        assert loop.longest < PAUSE


async def test_a_form_of_countless_encoded_bytes_is_refused(tmp_path: Path, store_url: str, laravel: Receiver) -> None:
    routes = POLICIES.replace("event: message_send, workers", "event: message_send, body: 40MiB, workers")
    async with gateway(tmp_path, store_url, laravel.url, text=routes) as gate:
        async with pulse() as loop:
            refused = await gate.http.post(
                "/api/messages/send",
                content=b"session_id=" + b"%41" * (8 * MIB),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
            )
        assert problem(refused) == (400, "the form has over 250,000 encoded bytes")
        assert loop.longest < PAUSE


@pytest.fixture
async def named(tmp_path: Path, store_url: str, laravel: Receiver, worker: Receiver) -> AsyncIterator[Gate]:
    """A gateway whose policies name the worker, so that it splits bulk-sends."""
    text = POLICIES.replace("sessions: {{", f'sessions: {{{{workers: [{{{{name: w1, url: "{worker.url}"}}}}], ')
    async with gateway(tmp_path, store_url, laravel.url, text=text) as gate:
        yield gate


def to(number: int) -> dict[str, object]:
    return {"session_id": "s1", "message": "news", "recipients": [f"49151{n:07}" for n in range(number)]}


async def test_of_the_answers_to_a_bulk_send_there_are_no_more_than_recipients(named: Gate, worker: Receiver) -> None:
    said = {"success": True, "successful": 6, "results": [{"n": n} for n in range(1000)], "errors": []}
    worker.response = answer(orjson.dumps(said))
    value = (await named.http.post("/api/messages/bulk-send", json=to(60))).json()
    assert (value["total"], len(value["results"])) == (60, 60)
    pieces = [head for head in worker.heads if head.startswith(b"POST ")]
    assert {encoding for head in pieces for encoding in values(head, b"accept-encoding")} == {b"identity"}


async def test_of_the_answers_to_a_bulk_send_so_many_bytes_are_kept(named: Gate, worker: Receiver) -> None:
    said = {"success": True, "successful": 6, "results": [{"text": "x" * (7 * MIB)}], "errors": []}
    worker.response = answer(orjson.dumps(said))
    value = (await named.http.post("/api/messages/bulk-send", json=to(60))).json()
    assert len(value["results"]) == 2
    assert value["successful"] > 6 * len(value["results"]), "the others are counted"
