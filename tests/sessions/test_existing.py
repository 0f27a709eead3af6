from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sessions.existing import ExistingWorkers
from sessions.policies import ExistingWorker, host_and_port
from sessions.registry import Owner, Registry, Unknown, Unowned
from sluice.config import Secret
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.heard import Heard
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Node:
    """An existing worker service, on a real port."""

    def __init__(self) -> None:
        self.answer: Any = {"success": True, "sessions": []}
        self.key: str | None = None
        self.healthy = True
        self.asked = 0
        app = Starlette(routes=[Route("/health", self._health), Route("/api/sessions", self._sessions)])
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none"))
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve())
        await until(lambda: self._server.started)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        self.name = host_and_port(self.url)

    async def end(self) -> None:
        self._server.should_exit = True
        if self._task:
            await self._task

    def lists(self, *sessions: str) -> None:
        self.answer = {"sessions": [{"session_id": session, "status": "connected"} for session in sessions]}

    async def _health(self, _: Request) -> Response:
        return Response(status_code=200 if self.healthy else 503)

    async def _sessions(self, request: Request) -> Response:
        self.asked += 1
        if request.headers.get("x-api-key") != self.key:
            return Response(status_code=401)
        return JSONResponse(self.answer)


Watch = Callable[..., ExistingWorkers]


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 0.6)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.start()
    yield node
    await node.end()


@pytest.fixture
async def other() -> AsyncIterator[Node]:
    other = Node()
    await other.start()
    yield other
    await other.end()


@pytest.fixture
async def watch(registry: Registry) -> AsyncIterator[Watch]:
    async with AsyncExitStack() as clients:

        def watch(*workers: ExistingWorker) -> ExistingWorkers:
            watching = ExistingWorkers(registry, workers, capacity=5)
            clients.push_async_callback(watching._http.aclose)
            return watching

        yield watch


def plain(node: Node) -> ExistingWorker:
    return ExistingWorker(node.url, None)


@pytest.mark.parametrize("name", ["session_id", "sessionId", "id"])
@pytest.mark.parametrize("bare", [True, False])
async def test_its_sessions_are_owned_by_it(
    registry: Registry, watch: Watch, node: Node, name: str, bare: bool
) -> None:
    items = [{name: "s1", "status": "qr_scanning", "phone_number": "628", "workspace_id": 7}]
    node.answer = items if bare else {"sessions": items}
    await watch(plain(node)).run_once()
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert (owner.worker, owner.url) == (node.name, node.url)
    (row,) = await registry.sessions()
    assert (row.state, row.phone, row.workspace) == ("qr_scanning", "628", "7")


async def test_its_key_goes_with_each_question(registry: Registry, watch: Watch, node: Node) -> None:
    node.key = "k1"
    node.lists("s1")
    await watch(plain(node)).run_once()
    assert await registry.owner_of("s1") == Unknown()
    await watch(ExistingWorker(node.url, Secret(b"k1"))).run_once()
    assert isinstance(await registry.owner_of("s1"), Owner)


async def test_a_session_it_no_longer_lists_is_forgotten(registry: Registry, watch: Watch, node: Node) -> None:
    watching = watch(plain(node))
    node.lists("s1", "s2")
    await watching.run_once()
    node.lists("s2")
    await watching.run_once()
    assert await registry.owner_of("s1") == Unknown()
    assert isinstance(await registry.owner_of("s2"), Owner)


async def test_a_new_session_may_be_placed_on_it_and_survives_until_it_is_listed(
    registry: Registry, watch: Watch, node: Node
) -> None:
    watching = watch(plain(node))
    await watching.run_once()
    placed = await registry.place("s1", {})
    assert isinstance(placed, Owner)
    assert placed.worker == node.name
    await watching.run_once()
    assert isinstance(await registry.owner_of("s1"), Owner)
    node.lists("s1")
    await watching.run_once()
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert owner.fence == placed.fence


@pytest.mark.parametrize(
    "answer", [{}, {"sessions": {}}, "no", {"sessions": [{"session_id": "s1"}, {}]}, [None], {"sessions": [{"id": ""}]}]
)
async def test_an_answer_that_cannot_be_read_forgets_nothing(
    registry: Registry, watch: Watch, node: Node, answer: object
) -> None:
    watching = watch(plain(node))
    node.lists("s1", "s2")
    await watching.run_once()
    node.answer = answer
    await watching.run_once()
    assert isinstance(await registry.owner_of("s2"), Owner)


async def test_one_that_does_not_answer_loses_its_leases_and_gets_them_back(
    registry: Registry, watch: Watch, node: Node, heard: Heard
) -> None:
    watching = watch(plain(node))
    node.lists("s1")
    await watching.run_once()
    node.healthy = False

    async def unowned() -> bool:
        await watching.run_once()
        return await registry.owner_of("s1") == Unowned()

    await until(unowned)
    node.healthy = True
    await watching.run_once()
    assert isinstance(await registry.owner_of("s1"), Owner)
    assert heard.messages() == ["existing_worker.no_answer", "existing_worker.answered_again"]


async def test_one_that_is_down_does_not_keep_the_others_from_being_seen(
    registry: Registry, watch: Watch, node: Node, free_port: Callable[[], int]
) -> None:
    node.lists("s1")
    await watch(ExistingWorker(f"http://127.0.0.1:{free_port()}", None), plain(node)).run_once()
    assert isinstance(await registry.owner_of("s1"), Owner)


async def test_a_session_that_two_claim_stays_where_it_is_and_is_warned_of_once(
    registry: Registry, watch: Watch, node: Node, other: Node, heard: Heard
) -> None:
    node.lists("s1")
    await watch(plain(node)).run_once()
    other.lists("s1")
    watching = watch(plain(node), plain(other))
    await watching.run_once()
    await watching.run_once()
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert owner.worker == node.name
    (fields,) = [fields for message, fields in heard.lines if message == "session.claimed_twice"]
    assert (fields["session"], fields["owner"], fields["also_at"]) == ("s1", node.name, other.name)


async def test_it_is_asked_three_times_a_lease_until_stopped(registry: Registry, node: Node) -> None:
    stop = Stop()
    node.lists("s1")

    async def is_owned() -> bool:
        return isinstance(await registry.owner_of("s1"), Owner)

    async with asyncio.TaskGroup() as group:
        group.create_task(ExistingWorkers(registry, [plain(node)], capacity=5).run(stop))
        await until(lambda: node.asked >= 4)
        await until(is_owned)
        stop.request()


async def test_while_the_store_is_away_it_goes_on_looking(node: Node) -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.2)
    stop = Stop()
    async with asyncio.TaskGroup() as group:
        group.create_task(ExistingWorkers(Registry(absent, 0.3), [plain(node)], capacity=5).run(stop))
        await until(lambda: node.asked >= 2)
        stop.request()
    await absent.close()
