"""Requests for sessions while the store does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.workers import reach
from sessions.registry import Unknown
from tests.gateway.running import Receiver, problem
from tests.gateway.store_link import Link, link_to
from tests.gateway.workers.fleet import QUERY, Fleet, accounts, fleet
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def link(store_url: str) -> AsyncIterator[Link]:
    async with link_to(store_url) as made:
        yield made


@pytest.fixture
async def one(
    tmp_path: Path,
    store_url: str,
    link: Link,
    laravel: Receiver,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Fleet]:
    """A session that is connected, behind a gateway whose way to the store can be blocked."""
    monkeypatch.setattr(reach, "HOLD_AT_MOST", 3.0)
    laravel.response = accounts()
    async with fleet(tmp_path, store_url, laravel, free_port, lease="1s", gates_store=link.url) as made:
        await made.connected("s1", "491")
        assert (await made.status("s1")).json()["status"] == "connected"
        yield made
        link.mend()


async def test_sessions_of_existing_workers_are_reached_for_longer_than_a_lease(one: Fleet, link: Link) -> None:
    link.block()
    for _ in range(4):
        await asyncio.sleep(0.6)
        answer = await one.http.get("/api/sessions/s1/metadata", params=QUERY)
        assert (answer.status_code, answer.json()["metadata"]["status"]) == (200, "connected")
        assert (await one.status("s1")).json()["status"] == "connected"


async def test_health_is_asked_of_the_named_workers(one: Fleet, link: Link) -> None:
    """Nobody has asked for it before."""
    link.block()
    assert (await one.http.get("/health")).json()["sessions"]["connected"] == 1


async def test_status_is_what_was_last_known_when_the_worker_is_away_too(one: Fleet, link: Link) -> None:
    before = (await one.status("s1")).json()
    assert (await one.http.get("/health")).json()["sessions"]["connected"] == 1
    link.block()
    await one.workers[0].kill()
    await asyncio.sleep(1.5)
    assert (await one.http.get("/health")).json()["sessions"]["connected"] == 1
    for _ in range(4):
        began = time.monotonic()
        answer = await one.status("s1")
        assert (answer.status_code, answer.json()) == (200, before)
        assert time.monotonic() - began < 4, "Laravel waits for 3 s; the machine of a test may be slow"
    assert (await one.status("s1", "guessed")).status_code == 401
    nobody = await one.status("nobody")
    assert (nobody.status_code, nobody.json()["status"]) == (200, "unknown")
    began = time.monotonic()
    healthy = await asyncio.gather(*(one.http.get(path) for path in ("/health", "/health/ready", "/health/detailed")))
    assert {answer.status_code for answer in healthy} == {200}
    assert time.monotonic() - began < 6, "Laravel waits for 5 s; the machine of a test may be slow"
    assert healthy[0].json()["sessions"]["connected"] == 1
    refused = await asyncio.gather(*(one.http.get("/info") for _ in range(8)))
    assert {answer.status_code for answer in refused} == {503}


async def test_status_of_a_session_that_may_be_restored_is_no_404_while_nobody_can_say(one: Fleet, link: Link) -> None:
    """This gateway has never been asked for its status, and its worker has just been started again."""
    assert (await one.create("s2")).status_code == 200
    assert (await one.http.get("/api/sessions/s2/metadata", params=QUERY)).status_code == 200
    link.block()
    await one.workers[0].kill()
    await one.workers[0].start()
    assert (await one.http.get("/api/sessions/s2/metadata", params=QUERY)).status_code == 404
    answer = await one.status("s2")
    assert (answer.status_code, answer.json()["status"]) == (200, "unknown")
    link.mend()

    async def known() -> bool:
        answer = await one.status("s2")
        return answer.status_code == 200 and answer.json()["status"] != "unknown"

    await until(known)


async def test_status_that_waited_for_a_worker_is_no_404_either_when_that_has_just_been_started(
    one: Fleet, link: Link
) -> None:
    assert (await one.create("s2")).status_code == 200
    assert (await one.http.get("/api/sessions/s2/metadata", params=QUERY)).status_code == 200
    link.block()
    await one.workers[0].kill()
    asked = asyncio.create_task(one.status("s2"))
    await asyncio.sleep(0.3)
    await one.workers[0].start()
    answer = await asked
    assert (answer.status_code, answer.json()["status"]) == (200, "unknown")


async def test_a_deletion_that_cannot_be_recorded_is_no_success_and_is_recorded_later(one: Fleet, link: Link) -> None:
    await one.status("s1")
    link.block()
    began = time.monotonic()
    answer = await one.delete("s1")
    detail = "session s1 is closed, but that cannot be recorded right now; delete it again"
    assert problem(answer) == (503, detail)
    assert 4 < time.monotonic() - began < 12
    assert await one.workers[0].status("s1") is None
    link.mend()

    async def forgotten() -> bool:
        return await one.registry.owner_of("s1") == Unknown()

    await until(forgotten)


async def test_a_create_is_held_and_then_refused(one: Fleet, link: Link) -> None:
    link.block()
    answer = await one.create("s2")
    assert problem(answer) == (503, "no session can be created right now: the store does not answer")
    assert one.browsers("s2") == 0
    link.mend()
    asked = asyncio.create_task(one.create("s3"))
    assert (await asked).status_code == 200


async def test_a_create_that_came_while_the_store_was_away_goes_on_when_it_is_back(one: Fleet, link: Link) -> None:
    link.block()
    asked = asyncio.create_task(one.create("s2"))
    await asyncio.sleep(0.5)
    link.mend()
    assert (await asked).status_code == 200
    assert one.browsers("s2") == 1
