"""The health of all workers together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

import orjson
import pytest

from gateway.workers.fleet import Fleet
from sessions.policies import ExistingWorker
from sessions.registry import ObservedSession, Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import Gate, Receiver, receiver
from tests.sluice.http.client.upstream import Call

pytestmark = pytest.mark.anyio


def health(total: int, connected: int, uptime: float = 10.0) -> bytes:
    sessions = {"total": total, "connected": connected, "disconnected": total - connected}
    body = orjson.dumps(
        {"status": "healthy", "uptime": uptime, "sessions": sessions, "memory": {"used": 100}, "timestamp": "now"}
    )
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def silent(call: Call) -> None:
    await call.head()
    await asyncio.sleep(60)


@pytest.fixture
async def workers(store: Store) -> AsyncIterator[Sequence[Receiver]]:
    """Two existing ones, w1 and w2, with three and two sessions."""
    registry = Registry(store, 600.0)
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(receiver()) for _ in range(2)]
        made[0].response, made[1].response = health(3, 3, 50.0), health(2, 1)
        await registry.observe(
            Worker("w1", "observed", made[0].url, 25), {f"a{i}": ObservedSession("connected") for i in range(3)}
        )
        await registry.observe(Worker("w2", "observed", made[1].url, 25), {"b": ObservedSession("disconnected")})
        yield made


async def test_the_sessions_of_all_workers_are_added_up(gate: Gate, workers: Sequence[Receiver]) -> None:
    answer = await gate.http.get("/health")
    assert answer.status_code == 200
    told = answer.json()
    assert isinstance(told.pop("timestamp"), str)
    assert told == {
        "status": "healthy",
        "uptime": 50.0,
        "sessions": {"total": 5, "connected": 4, "disconnected": 1},
        "memory": {"used": 200},
        "workers": {"total": 2, "answered": 2},
    }


async def test_a_worker_that_the_policies_name_is_asked_before_anybody_has_seen_it(store: Store) -> None:
    """A gateway that has just started must not tell Laravel that nothing is connected."""
    fleet = Fleet(Registry(store, 600.0))
    fleet.apply(
        [ExistingWorker("http://127.0.0.1:3001", name="w1"), ExistingWorker("http://127.0.0.1:3002", name="w2")]
    )
    assert [row.worker for row in await fleet.workers()] == ["w1", "w2"]
    await Registry(store, 600.0).observe(Worker("w1", "observed", "http://127.0.0.1:3001", 25), {})
    await asyncio.sleep(1.1)
    assert [(row.worker, row.capacity) for row in await fleet.workers()] == [("w1", 25), ("w2", 0)]


async def test_a_burst_asks_each_worker_once(gate: Gate, workers: Sequence[Receiver]) -> None:
    answers = await asyncio.gather(*(gate.http.get(path) for path in ("/health", "/health/detailed") * 20))
    assert {answer.status_code for answer in answers} == {200}
    assert [len(worker.heads) for worker in workers] == [1, 1]


async def test_a_worker_that_is_slow_counts_with_what_it_said_last(gate: Gate, workers: Sequence[Receiver]) -> None:
    assert (await gate.http.get("/health")).json()["sessions"]["connected"] == 4
    for worker in workers:
        worker.play = silent
        for call in worker.upstream.calls:
            call.reset()
    await asyncio.sleep(1.1)
    began = time.monotonic()
    told = (await gate.http.get("/health")).json()
    assert time.monotonic() - began < 4, "Laravel waits for five seconds"
    assert (told["sessions"]["connected"], told["workers"]) == (4, {"total": 2, "answered": 0})
    assert told["status"] == "degraded"


async def test_a_worker_that_has_said_nothing_yet_counts_as_the_registry_has_it(
    gate: Gate, workers: Sequence[Receiver]
) -> None:
    for worker in workers:
        worker.play = silent
    answer = await gate.http.get("/health")
    assert (answer.status_code, answer.json()["sessions"]["connected"]) == (200, 3)


async def test_what_is_no_health_of_the_contract_is_not_believed(gate: Gate, workers: Sequence[Receiver]) -> None:
    bad = b'{"sessions": {"total": 1e99, "connected": -5, "disconnected": "many"}}'
    workers[1].response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(bad) + bad
    told = (await gate.http.get("/health/detailed")).json()
    assert told["workers"] == [
        {"worker": "w1", "answered": True, "sessions": {"total": 3, "connected": 3, "disconnected": 0}},
        {"worker": "w2", "answered": False, "sessions": None},
    ]


async def test_without_workers_health_is_still_an_answer(gate: Gate) -> None:
    for path in ("/health", "/health/ready", "/health/live", "/health/detailed"):
        assert (await gate.http.get(path)).status_code == 200, path
    assert (await gate.http.get("/health")).json()["sessions"] == {"total": 0, "connected": 0, "disconnected": 0}
    assert (await gate.http.get("/health/ready")).json()["ready"] is False


async def test_no_worker_is_asked_whether_it_lives(gate: Gate, workers: Sequence[Receiver]) -> None:
    """Existing ones always answer 503."""
    assert (await gate.http.get("/health/live")).json()["alive"] is True
    assert [worker.heads for worker in workers] == [[], []]
    assert (await gate.http.get("/health/ready")).json()["ready"] is True
