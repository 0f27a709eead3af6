from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sessions.existing import ExistingWorkers
from sessions.policies import ExistingWorker, host_and_port
from sessions.registry import Owner, Registry, Unowned
from sluice.config import Secret
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.heard import Heard
from tests.sessions.making import place
from tests.waiting import until

pytestmark = pytest.mark.anyio


class Node:
    """An existing worker service, on a real port. `begins`: the processes behind it, by when each began; they take
    turns.
    """

    def __init__(self) -> None:
        self.answer: Any = {"success": True, "sessions": []}
        self.key: str | None = None
        self.healthy = True
        self.asked = 0
        self.takes = 0.0
        self.begins = [time.monotonic() - 1000.0]
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
        self._server.force_exit = True
        if self._task:
            await self._task

    def lists(self, *sessions: str) -> None:
        self.answer = {"sessions": [{"session_id": session, "status": "connected"} for session in sessions]}

    async def _health(self, _: Request) -> Response:
        self.begins.append(began := self.begins.pop(0))
        return JSONResponse({"uptime": time.monotonic() - began}, status_code=200 if self.healthy else 503)

    async def _sessions(self, request: Request) -> Response:
        self.asked += 1
        await asyncio.sleep(self.takes)
        if request.query_params.getlist("api_key") != ([] if self.key is None else [self.key]):
            return JSONResponse({"error": "Invalid API key"}, 401)
        return JSONResponse(self.answer)


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """Its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = server.force_exit = True
    await task


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
async def watch(registry: Registry, store: Store) -> AsyncIterator[Watch]:
    async with AsyncExitStack() as clients:

        def watch(*workers: ExistingWorker, lease: float = 0.0) -> ExistingWorkers:
            watching = ExistingWorkers(Registry(store, lease) if lease else registry, workers, capacity=5)
            clients.push_async_callback(watching.close)
            return watching

        yield watch


def plain(node: Node) -> ExistingWorker:
    return ExistingWorker(node.url, None)


async def test_its_sessions_are_owned_by_it(registry: Registry, watch: Watch, node: Node) -> None:
    node.answer = [{"id": "s1", "status": "qr_scanning", "phone_number": "628", "workspace_id": 7}]
    await watch(plain(node)).run_once()
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert (owner.worker, owner.url) == (node.name, node.url)
    (row,) = await registry.sessions()
    assert (row.state, row.phone, row.workspace) == ("qr_scanning", "628", "7")


@pytest.mark.parametrize("key", ["k1", "a b&c=d+%/\u00fc"])
async def test_its_key_goes_with_each_question_and_into_no_log(
    registry: Registry, watch: Watch, node: Node, heard: Heard, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    node.key = key
    node.lists("s1")
    watching = watch(worker := ExistingWorker(node.url, Secret(key.encode())))
    await watching.run_once()
    assert isinstance(await registry.owner_of("s1"), Owner)
    node.key = "another"
    await watching.run_once()
    (seen,) = watching.seen
    assert (seen.why, seen.refused, seen.keyed) == ("GET /api/sessions answered 401", True, True)
    ours = [record.getMessage() for record in caplog.records if record.name != "uvicorn.access"]  # that is the worker's
    said = f"{ours} {heard.lines} {worker!r} {seen!r}"
    assert key not in said
    assert "api_key" not in said


async def test_a_worker_without_a_key_is_sent_none(registry: Registry, watch: Watch, node: Node) -> None:
    node.lists("s1")
    await watch(plain(node)).run_once()
    assert isinstance(await registry.owner_of("s1"), Owner)
    watching = watch(ExistingWorker(node.url, Secret(b"k1")))
    await watching.run_once()
    assert [(one.why, one.refused) for one in watching.seen] == [("GET /api/sessions answered 401", True)]


async def test_a_worker_that_wants_a_key_and_is_given_none_is_said_to_refuse(watch: Watch, node: Node) -> None:
    node.key = "k1"
    watching = watch(plain(node))
    await watching.run_once()
    (seen,) = watching.seen
    assert (seen.why, seen.refused, seen.keyed) == ("GET /api/sessions answered 401", True, False)


async def test_a_key_for_the_header_is_in_the_header_alone(registry: Registry, watch: Watch) -> None:
    asked: list[tuple[str, str | None]] = []

    async def answer(request: Request) -> Response:
        asked.append((str(request.url.query), request.headers.get("x-api-key")))
        return JSONResponse({"sessions": [{"id": "s1"}]})

    async with serving(Starlette(routes=[Route("/{path:path}", answer)])) as url:
        await watch(ExistingWorker(url, Secret(b"k1"), "header")).run_once()
    assert isinstance(await registry.owner_of("s1"), Owner)
    assert set(asked) == {("", "k1")}


async def test_a_session_it_no_longer_lists_stays_its_own(registry: Registry, watch: Watch, node: Node) -> None:
    watching = watch(plain(node))
    node.lists("s1", "s2")
    await watching.run_once()
    node.lists("s2")

    async def missing() -> bool:
        await watching.run_once()
        row = await registry.session("s1")
        return row is not None and row.missing_since is not None

    await until(missing)
    assert isinstance(await registry.owner_of("s1"), Owner)
    assert isinstance(await registry.owner_of("s2"), Owner)


async def test_a_new_session_may_be_placed_on_it_and_survives_until_it_is_listed(
    registry: Registry, watch: Watch, node: Node
) -> None:
    watching = watch(plain(node))
    await watching.run_once()
    placed = await place(registry, "s1", {})
    assert isinstance(placed, Owner)
    assert placed.worker == node.name
    await watching.run_once()
    assert isinstance(await registry.owner_of("s1"), Owner)
    node.lists("s1")
    await watching.run_once()
    owner = await registry.owner_of("s1")
    assert isinstance(owner, Owner)
    assert owner.fence == placed.fence


@pytest.mark.parametrize("answer", [{}, {"sessions": {}}, "no", {"sessions": [[]] * 1001}])
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
        return isinstance(await registry.owner_of("s1"), Unowned)

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


async def test_an_odd_item_is_warned_of_once_and_the_other_sessions_count(
    registry: Registry, watch: Watch, node: Node, heard: Heard
) -> None:
    node.answer = [{"id": "s1"}, {"status": "\u202e"}, {"id": "s3"}]
    watching = watch(plain(node))
    await watching.run_once()
    await watching.run_once()
    for session in ("s1", "s3"):
        assert isinstance(await registry.owner_of(session), Owner)
    (seen,) = watching.seen
    assert (seen.odd, seen.example, seen.why) == (1, '{"status":"\\u202e"}', None)
    odd = [fields for message, fields in heard.lines if message == "existing_worker.odd_items"]
    assert odd == [{"worker": node.name, "items": 1, "example": '{"status":"\\u202e"}'}]


async def test_several_processes_behind_one_url_are_noticed_and_warned_of_once(
    watch: Watch, node: Node, heard: Heard
) -> None:
    node.begins = [time.monotonic() - 1000.0, time.monotonic() - 990.0]
    watching = watch(plain(node))
    for _ in range(3):
        await watching.run_once()
    assert [seen.several for seen in watching.seen] == [True]
    assert heard.messages() == ["existing_worker.several_processes"]


async def test_a_restart_is_no_second_process_and_its_moment_is_known(watch: Watch, node: Node, heard: Heard) -> None:
    watching = watch(plain(node))
    for _ in range(2):
        await watching.run_once()
    node.begins = [time.monotonic() - 3.0]
    for _ in range(3):
        await watching.run_once()
    (seen,) = watching.seen
    assert not seen.several
    assert seen.began == pytest.approx(time.time() - 3.0, abs=1.0)
    assert heard.messages() == ["existing_worker.restarted"]


async def test_a_look_that_takes_most_of_a_lease_loses_nothing(store: Store, node: Node) -> None:
    registry, stop = Registry(store, 2.0), Stop()
    node.lists("s1")
    node.takes = 1.0

    async def is_owned() -> bool:
        return isinstance(await registry.owner_of("s1"), Owner)

    async with asyncio.TaskGroup() as group:
        group.create_task(ExistingWorkers(registry, [plain(node)], capacity=5).run(stop))
        await until(is_owned)
        lost = 0
        while node.asked < 4:
            lost += not await is_owned()
            await asyncio.sleep(0.05)
        stop.request()
    assert lost == 0


async def test_one_that_hangs_keeps_nobody_waiting_and_its_look_ends_with_a_reason(
    registry: Registry, node: Node, other: Node
) -> None:
    stop = Stop()
    node.takes = 60.0
    watching = ExistingWorkers(registry, [plain(node), plain(other)], capacity=5)
    async with asyncio.TaskGroup() as group:
        group.create_task(watching.run(stop))
        await until(lambda: other.asked >= 4)
        await until(lambda: len(watching.seen) == 2)
        stop.request()
    assert [seen.why for seen in watching.seen] == ["GET /api/sessions: no answer within 0.6s", None]


async def test_a_look_that_goes_on_does_not_delay_the_stop(store: Store, node: Node) -> None:
    stop = Stop()
    node.takes = 60.0
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(ExistingWorkers(Registry(store, 30.0), [plain(node)], capacity=5).run(stop))
        await until(lambda: node.asked)
        stop.request()
    assert time.monotonic() - began < 15


async def test_a_huge_answer_is_cut_off(watch: Watch) -> None:
    async def huge(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(1024):
                yield b"[" * 65536

        return StreamingResponse(pieces())

    routes = [Route("/health", lambda _: Response()), Route("/api/sessions", huge)]
    async with serving(Starlette(routes=routes)) as url:
        watching = watch(ExistingWorker(url), lease=30.0)
        await watching.run_once()
    assert [seen.why for seen in watching.seen] == ["GET /api/sessions answered more than 4 MiB"]


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


async def test_while_the_store_is_away_it_goes_on_trying(node: Node) -> None:
    absent = Store("unix:///nonexistent/store.sock", timeout=0.2)
    stop = Stop()
    async with asyncio.TaskGroup() as group:
        group.create_task(ExistingWorkers(Registry(absent, 0.3), [plain(node)], capacity=5).run(stop))
        await until(lambda: absent.trips >= 2)
        stop.request()
    await absent.close()
