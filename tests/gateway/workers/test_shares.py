"""How many of the connections to a worker one client address may use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessions.registry import Registry, Worker
from sluice.store.client import Store
from tests.gateway.running import Gate, Receiver, gateway, receiver
from tests.gateway.sharing import LISTED, ONE, OTHER, Holding, all_answered, asking, refused_one_too_many, status_of
from tests.heard import Heard
from tests.sessions.making import place
from tests.waiting import until

pytestmark = pytest.mark.anyio

MOST = 2
"""A hundredth of the 256 connections to each worker."""
TEXT = """
version: 1
store: {{url: "{store}", promise: memory}}
clients: {{share: 1%, exempt: [laravel]}}
trust: {{lists: {{laravel: [127.0.0.7/32]}}}}
routes:
  - {{path: "/api/sessions/{{session}}/**", workers: owner, headers: {headers}}}
# {laravel}
"""


@pytest.fixture
async def holding(laravel: Receiver) -> Holding:
    """What `laravel` is here: the worker a, which has the session s1."""
    made = Holding()
    laravel.play = made.play
    return made


@pytest.fixture
async def shared(tmp_path: Path, store_url: str, store: Store, laravel: Receiver) -> AsyncIterator[Gate]:
    registry = Registry(store, 60.0)
    await registry.register(Worker("a", "1", laravel.url, 5))
    await place(registry, "s1")
    async with gateway(tmp_path, store_url, laravel.url, headers="30s", text=TEXT) as gate:
        yield gate


GET = b"GET /api/sessions/s1/chats HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_what_is_over_the_share_of_an_address_is_503_and_others_reach_the_worker(
    shared: Gate, holding: Holding, heard: Heard
) -> None:
    async with asking(shared, ONE, MOST, GET) as held:
        await until(lambda: holding.held == MOST)
        await refused_one_too_many(shared, ONE, GET)
        async with asking(shared, OTHER, MOST, GET) as others, asking(shared, LISTED, MOST + 1, GET) as listed:
            await until(lambda: holding.held == 3 * MOST + 1)
            holding.lets_go.set()
            await all_answered(held + others + listed)
        assert await status_of(shared, ONE, GET) == b"200", "what was answered gives its place back"
    (line,) = [fields for message, fields in heard.lines if message == "request" and fields["status"] == 503]
    assert line["why"] == (
        f"{ONE} has its share of the connections to workers, 2 of 256 (clients.share); if it is a proxy or an office "
        "of yours, name it in trust.proxies, or in a list of clients.exempt"
    )


async def test_a_client_has_its_share_at_each_worker(shared: Gate, holding: Holding, store: Store) -> None:
    async with receiver() as second, asking(shared, ONE, MOST, GET):
        registry = Registry(store, 60.0)
        await registry.register(Worker("b", "1", second.url, 50))
        await place(registry, "s2")
        await until(lambda: holding.held == MOST)
        assert await status_of(shared, ONE, GET.replace(b"s1", b"s2")) == b"200"
        holding.lets_go.set()


async def test_a_client_that_leaves_gives_its_place_at_the_worker_back(
    shared: Gate, holding: Holding, heard: Heard
) -> None:
    async with shared.raw(GET, address=ONE), shared.raw(GET, address=ONE) as leaving:
        await until(lambda: holding.held == MOST)
        leaving.hang_up()
        await until(lambda: any(fields.get("status") == 499 for _, fields in heard.lines))
        async with shared.raw(GET, address=ONE):
            await until(lambda: holding.held == MOST + 1)
            holding.lets_go.set()
