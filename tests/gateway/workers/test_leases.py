"""A worker of ours that is frozen takes requests and answers none: the waiting for it ends with its lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from sessions.registry import Owner, Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import Gate, Receiver, problem, receiver
from tests.sessions.making import listed, place
from tests.sluice.http.client.upstream import Call

pytestmark = pytest.mark.anyio

LEASE = 2.0
"""Seconds; nobody beats here."""
LONG_BEFORE_THE_ROUTES_TIME = 20.0


def answering(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def frozen(call: Call) -> None:
    await call.head()
    await asyncio.sleep(60)


class Workers:
    """`a` freezes when it is asked for the first time, `b` answers."""

    def __init__(self, store: Store, a: Receiver, b: Receiver) -> None:
        self._short = Registry(store, LEASE)
        self._long = Registry(store, 60.0)
        self.a = a
        self.b = b
        self.a.play = frozen
        self.b.response = answering(b"b")

    async def own(self, session: str) -> None:
        """`a` has it for a lease, `b` comes later."""
        await self._short.register(Worker("a", "1", self.a.url, 5))
        found = await place(self._short, session)
        assert (found.worker, found.existing) == ("a", False)
        await self._long.register(Worker("b", "1", self.b.url, 5))

    async def without_b(self) -> None:
        await self._long.deregister("b", "1")

    async def existing(self, session: str) -> None:
        await self._short.observe(Worker("a", "", self.a.url, 5), listed([session]))
        found = await self._short.owner_of(session)
        assert isinstance(found, Owner)
        assert found.existing


@pytest.fixture
async def workers(store: Store) -> AsyncIterator[Workers]:
    async with AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(receiver()) for _ in range(2)]
        yield Workers(store, a, b)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_what_is_safe_to_repeat_goes_to_the_next_owner(gate: Gate, workers: Workers, method: str) -> None:
    await workers.own("s1")
    began = time.monotonic()
    answer = await gate.http.request(method, "/api/sessions/s1/x")
    assert answer.text == ("" if method == "HEAD" else "b")
    assert LEASE - 0.5 < time.monotonic() - began < LONG_BEFORE_THE_ROUTES_TIME
    assert len(workers.b.heads) == 1


async def test_what_may_have_been_done_already_is_not_done_again(gate: Gate, workers: Workers) -> None:
    await workers.own("s1")
    began = time.monotonic()
    answer = await gate.http.post("/api/messages/send", json={"session_id": "s1"}, timeout=60)
    assert problem(answer) == (504, "worker a did not answer in time")
    assert LEASE - 0.5 < time.monotonic() - began < LONG_BEFORE_THE_ROUTES_TIME
    assert workers.b.heads == []


async def test_a_create_at_a_worker_that_is_frozen_ends_with_its_lease(gate: Gate, workers: Workers) -> None:
    await workers.own("another")
    await workers.without_b()
    began = time.monotonic()
    answer = await gate.http.post("/api/sessions", json={"session_id": "new"}, timeout=60)
    assert problem(answer) == (504, "worker a did not answer in time")
    assert LEASE - 0.5 < time.monotonic() - began < LONG_BEFORE_THE_ROUTES_TIME


async def test_a_question_to_any_worker_is_put_to_another_one(gate: Gate, workers: Workers) -> None:
    await workers.own("s1")
    answers = await asyncio.gather(*(gate.http.get("/info", timeout=60) for _ in range(4)))
    assert [answer.text for answer in answers] == ["b"] * 4
    assert workers.a.upstream.calls


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_existing_worker_keeps_the_time_of_its_route(gate: Gate, workers: Workers, method: str) -> None:
    """It may be busy for longer than a lease, and answers then."""

    async def busy(call: Call) -> None:
        await call.head()
        await asyncio.sleep(LEASE + 3)
        call.say(answering(b"at last"))

    workers.a.play = busy
    await workers.existing("s1")
    assert (await gate.http.request(method, "/api/sessions/s1/x", timeout=60)).text == "at last"
    assert len(workers.a.upstream.calls) == 1
