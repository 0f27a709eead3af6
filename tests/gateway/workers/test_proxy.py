"""Requests for sessions through the whole gateway: they find the worker that owns the session, or wait, or say why."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.workers import reach
from sessions.registry import Owner, Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import FORWARDED, Gate, Receiver, as_served, gateway, problem, receiver, values
from tests.sessions.making import place
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.every_server]

MISDIRECTED = b"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n"


def answering(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 600.0)


@pytest.fixture
def held_for_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """In gateways that are made from now on."""
    monkeypatch.setattr(reach, "HOLD_AT_MOST", 2.0)


@pytest.fixture
async def workers() -> AsyncIterator[tuple[Receiver, Receiver]]:
    """Two workers, a and b, that tell their names."""
    async with AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(receiver()) for _ in range(2)]
        a.response, b.response = answering(b"a"), answering(b"b")
        yield a, b


async def registered(registry: Registry, name: str, url: str, capacity: int = 5) -> None:
    await registry.register(Worker(name, "1", url, capacity))


async def placed(registry: Registry, session: str) -> Owner:
    owner = await place(registry, session, {})
    assert isinstance(owner, Owner)
    return owner


async def moved(registry: Registry, session: str, to: str) -> Owner:
    """Worker a leaves, another one takes what it had."""
    await registered(registry, "b", to)
    await registry.deregister("a", "1")
    return await placed(registry, session)


async def test_a_session_that_nobody_knows_is_answered_by_any_worker(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    own, existing = workers
    own.response = MISDIRECTED
    await registered(registry, "own", own.url)
    await registry.observe(Worker("existing", "observed", existing.url, 5), {})
    for method, path in (("GET", "/api/sessions/nobody/status"), ("DELETE", "/api/sessions/nobody")):
        assert (await gate.http.request(method, path)).text == "b"
    assert [values(head, b"x-sluice-fence") for head in existing.heads] == [[], []], "it has no lease on it"
    assert own.heads == []


async def test_workers_of_ours_are_not_asked_for_a_session_that_nobody_knows(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    await registered(registry, "own", workers[0].url)
    assert problem(await gate.http.get("/api/sessions/nobody/x")) == (404, "there is no session nobody")
    assert problem(await gate.http.delete("/api/sessions/nobody")) == (404, "there is no session nobody")
    status = await gate.http.get("/api/sessions/nobody/status")
    assert (status.status_code, status.content) == (404, b'{"error":"Session not found"}')
    assert (await gate.http.get("/info")).text == "a"
    assert len(workers[0].heads) == 1


async def test_without_any_worker_a_session_that_nobody_knows_is_503(gate: Gate) -> None:
    begin = time.monotonic()
    response = await gate.http.post("/api/messages/text", json={"session_id": "nobody"})
    assert problem(response) == (503, "no worker answers right now")
    assert response.headers["retry-after"] == "5"
    assert 4.5 < time.monotonic() - begin < 9


async def test_a_request_reaches_the_owner_with_the_fence_and_byte_for_byte(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    a, b = workers
    await registered(registry, "a", a.url)
    owner = await placed(registry, "s 1")
    await registered(registry, "b", b.url)
    body = b'{"a":  1}'
    target = b"/api/sessions/s%201/send%20now?b=1&a=2"
    forged = b"X-Sluice-Fence: 999\r\nx-sluice-message-id: mine\r\n"
    head = b"POST " + target + b" HTTP/1.1\r\nHost: shop.example\r\n" + forged + b"Content-Length: 9\r\n\r\n"
    async with gate.raw(head, body) as client:
        assert (await client.head()).startswith(b"HTTP/1.1 200 ")
        assert await client.exactly(1) == b"a"
    assert (a.bodies, b.heads) == ([body], [])
    (got,) = a.heads
    assert as_served(got) == as_served(
        b"POST " + target + b" HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 9\r\n"
        b"" + FORWARDED + b"X-Sluice-Fence: %d\r\n\r\n" % owner.fence
    )


async def test_the_session_is_found_in_the_body_too(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    a, b = workers
    await registered(registry, "a", a.url)
    await placed(registry, "s1")
    await registered(registry, "b", b.url)
    await placed(registry, "s2")
    answers = [await gate.http.post("/api/messages/text", json={"session_id": session}) for session in ("s1", "s2")]
    assert [answer.text for answer in answers] == ["a", "b"]


async def test_every_session_answers_from_its_own_worker(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    for name, worker in zip("ab", workers, strict=True):
        await registered(registry, name, worker.url, capacity=25)
    owners = {f"s{i}": (await placed(registry, f"s{i}")).worker for i in range(50)}
    assert sorted(owners.values()) == ["a"] * 25 + ["b"] * 25
    answers = await asyncio.gather(*(gate.http.get(f"/api/sessions/{session}/status") for session in owners))
    assert [answer.text for answer in answers] == list(owners.values())


async def test_421_makes_the_gateway_look_again(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    """The worker knows of the move before the gateway does."""
    a, b = workers
    await registered(registry, "a", a.url)
    await placed(registry, "s1")

    async def gives_up(call: Call) -> None:
        await call.head()
        await call.reader.readexactly(3)
        await moved(registry, "s1", b.url)
        call.say(MISDIRECTED)

    a.play = gives_up
    begin = time.monotonic()
    assert (await gate.http.post("/api/sessions/s1/x", content=b"two")).text == "b"
    assert time.monotonic() - begin < 1
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert b.bodies == [b"two"]
    assert values(b.heads[0], b"x-sluice-fence") == [b"%d" % owner.fence]
    a.play = a.record
    assert (await gate.http.get("/api/sessions/s1/x")).text == "b"
    assert a.heads == [], "the new owner is remembered"


async def test_after_a_move_no_gateway_asks_the_former_owner(
    tmp_path: Path,
    gate: Gate,
    store_url: str,
    registry: Registry,
    workers: tuple[Receiver, Receiver],
    laravel: Receiver,
) -> None:
    """The move is made by one gateway's keeper; the other one has the former owner in its cache for a lease."""
    a, b = workers
    own = tmp_path / "other"
    own.mkdir()
    async with gateway(own, store_url, laravel.url) as other:
        await registered(registry, "a", a.url)
        await placed(registry, "s1")
        for one in (gate, other):
            assert (await one.http.get("/api/sessions/s1/x")).text == "a"
        await moved(registry, "s1", b.url)
        await asyncio.sleep(0.5)  # 0.1 s where the machine has time
        answers = [await one.http.get("/api/sessions/s1/x") for one in (gate, other) * 32]
        assert {answer.text for answer in answers} == {"b"}
        assert len(a.heads) == 2


async def test_a_question_to_a_worker_that_loses_the_session_is_put_to_the_next_owner(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    """One that is frozen takes requests and answers none."""
    a, b = workers
    asked = asyncio.Event()

    async def freezes(call: Call) -> None:
        await call.head()
        asked.set()
        await asyncio.sleep(20)

    await registered(registry, "a", a.url)
    await placed(registry, "s1")
    a.play = freezes
    question = asyncio.create_task(gate.http.get("/api/sessions/s1/x"))
    await asked.wait()
    began = time.monotonic()
    await moved(registry, "s1", b.url)
    assert (await question).text == "b"
    assert time.monotonic() - began < 10


async def test_what_may_have_been_done_by_a_worker_that_loses_the_session_is_not_done_again(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    a, b = workers

    async def answers_late(call: Call) -> None:
        await call.head()
        await call.reader.readexactly(3)
        await moved(registry, "s1", b.url)
        await asyncio.sleep(0.5)
        call.say(answering(b"a"))

    await registered(registry, "a", a.url)
    await placed(registry, "s1")
    a.play = answers_late
    assert (await gate.http.post("/api/sessions/s1/x", content=b"two")).text == "a"
    assert b.heads == []


async def test_a_cached_owner_costs_no_round_trip(
    gate: Gate, registry: Registry, store_url: str, workers: tuple[Receiver, Receiver]
) -> None:
    await registered(registry, "a", workers[0].url)
    await placed(registry, "s1")
    await gate.http.get("/api/sessions/s1/x")
    before = await scripts_run(store_url)
    for _ in range(50):
        assert (await gate.http.get("/api/sessions/s1/x")).text == "a"
    # One for the limit of each request; the clock, keeper and others run now and then, some of them each second.
    assert await scripts_run(store_url) - before < 50 + 45


async def scripts_run(store_url: str) -> int:
    async with Redis.from_url(store_url) as client:
        stats: dict[str, Any] = await client.info("commandstats")
    return sum(int(of["calls"]) for command, of in stats.items() if command in ("cmdstat_evalsha", "cmdstat_eval"))


async def test_a_session_that_nobody_runs_is_held_and_then_503(
    held_for_two_seconds: None,
    gate: Gate,
    registry: Registry,
    workers: tuple[Receiver, Receiver],
    free_port: Callable[[], int],
) -> None:
    await registered(registry, "refuses", f"http://127.0.0.1:{free_port()}")
    await placed(registry, "refused")
    a, _ = workers
    a.response = MISDIRECTED
    await registered(registry, "a", a.url)
    await placed(registry, "misdirected")
    await registry.want({"unowned": {}})
    begin = time.monotonic()
    sessions = ("refused", "misdirected", "unowned")
    answers = await asyncio.gather(*(gate.http.get(f"/api/sessions/{session}/x") for session in sessions))
    assert 1.5 < time.monotonic() - begin < 7
    for session, answer in zip(sessions, answers, strict=True):
        assert problem(answer) == (503, f"no worker runs session {session} right now")
        assert answer.headers["retry-after"] == "2"


async def test_a_held_request_is_answered_by_the_next_owner(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver], free_port: Callable[[], int]
) -> None:
    _, b = workers
    await registered(registry, "a", f"http://127.0.0.1:{free_port()}")
    await placed(registry, "s1")
    asked = asyncio.create_task(gate.http.post("/api/sessions/s1/x", content=b"body"))
    await moved(registry, "s1", b.url)
    assert (await asked).text == "b"
    assert b.bodies == [b"body"]


async def test_an_owner_whose_machine_is_gone_is_held_too(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    """Nobody refuses the connection, nobody accepts it: a listener whose backlog is full drops it."""
    _, b = workers
    with socket.socket() as dead, socket.socket() as first, socket.socket() as second:
        dead.bind(("127.0.0.1", 0))
        dead.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(dead.getsockname())
        await registered(registry, "a", f"http://127.0.0.1:{dead.getsockname()[1]}")
        await placed(registry, "s1")
        before = connecting_to(dead)
        asked = asyncio.create_task(gate.http.get("/api/sessions/s1/x"))
        await until(lambda: connecting_to(dead) > before, what="the connection to be tried")
        await moved(registry, "s1", b.url)
        assert (await asked).text == "b"


def connecting_to(listener: socket.socket) -> int:
    """Connections to it that wait for an answer to their SYN."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{listener.getsockname()[1]:04X}"
    return sum(row[2].endswith(port) and row[3] == "02" for row in rows)


async def test_an_owner_that_breaks_off_is_502_and_is_not_asked_again(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    a, _ = workers
    a.response = b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n"
    await registered(registry, "a", a.url)
    await placed(registry, "s1")
    response = await gate.http.post("/api/messages/text", json={"session_id": "s1"})
    assert problem(response) == (502, "worker a answered what cannot be passed on")
    assert len(a.heads) == 1


async def test_what_a_worker_answers_is_passed_on_as_it_is(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    a, _ = workers
    a.response = b"HTTP/1.1 404 Not Found\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 3\r\n\r\nno!"
    await registered(registry, "a", a.url)
    await placed(registry, "s1")
    response = await gate.http.get("/api/sessions/s1/x")
    assert (response.status_code, response.text) == (404, "no!")
    assert response.headers.get_list("set-cookie") == ["a", "b"]


# --- new sessions


async def test_a_new_session_is_placed_on_the_least_loaded_worker(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    a, b = workers
    await registered(registry, "a", a.url)
    for session in ("old1", "old2"):
        await placed(registry, session)
    await registered(registry, "b", b.url)
    new = {"session_id": "new", "workspace_id": 7, "api_key": "hidden"}
    assert (await gate.http.post("/api/sessions", json=new)).text == "b"
    owner = await registry.owner_of("new")
    assert isinstance(owner, Owner)
    assert values(b.heads[0], b"x-sluice-fence") == [b"%d" % owner.fence]
    row = await registry.session("new")
    assert row is not None
    assert (row.worker, row.workspace) == ("b", "7")
    assert "hidden" not in str(row), "a key is nothing to remember"
    assert (await gate.http.post("/api/sessions", json=new)).text == "b"
    assert {row.session for row in (await registry.page("", 10)).rows} == {"new", "old1", "old2"}


async def test_without_workers_a_new_session_is_503_after_a_while(gate: Gate) -> None:
    begin = time.monotonic()
    response = await gate.http.post("/api/sessions", json={"session_id": "new"})
    assert problem(response) == (503, "no worker is registered")
    assert response.headers["retry-after"] == "5"
    assert 4.5 < time.monotonic() - begin < 9


async def test_when_all_workers_are_full_a_new_session_is_503(
    gate: Gate, registry: Registry, workers: tuple[Receiver, Receiver]
) -> None:
    await registered(registry, "a", workers[0].url, capacity=1)
    await placed(registry, "s1")
    response = await gate.http.post("/api/sessions", json={"session_id": "new"})
    assert problem(response) == (503, "all 1 workers are full (sessions.per_worker)")
    assert workers[0].heads == []


async def test_a_worker_may_register_over_http_and_is_then_asked(
    gate: Gate, workers: tuple[Receiver, Receiver]
) -> None:
    a, _ = workers
    await gate.post_signed("/_sluice/workers", {"id": "a", "instance": "1", "url": a.url, "capacity": 5})
    assert (await gate.http.post("/api/sessions", json={"session_id": "s1"})).text == "a"
