from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sluice.demo import laravel, traffic
from sluice.demo.laravel import Ledger
from sluice.demo.worker import DemoWorker
from tests.sluice.demo.serving import SIGNATURE, reports, sequences, served
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

ONE, TWO = traffic.names(2)
URL = "http://worker-1.test:3001"


class Stage:
    """A worker behind a server, and the Laravel it posts to."""

    def __init__(self, worker: DemoWorker, ledger: Ledger, client: httpx2.AsyncClient) -> None:
        self.worker = worker
        self.ledger = ledger
        self.client = client

    async def ask(self, method: str, path: str, fence: int | str | None = None, json: object = None) -> httpx2.Response:
        headers = {} if fence is None else {"X-Sluice-Fence": str(fence)}
        return await self.client.request(method, path, headers=headers, json=json)

    def events(self, session: str) -> list[str]:
        return [one.event for one in self.ledger.deliveries if one.session == session]


@asynccontextmanager
async def on_stage(*, limit: int = 1_000_000, minute: float = 0.3, traffic: bool = False) -> AsyncIterator[Stage]:
    ledger = Ledger()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(served(laravel.app(SIGNATURE, limit=limit, ledger=ledger)))
        worker = DemoWorker("worker-1", address, SIGNATURE, URL, minute=minute, traffic=traffic, drain_timeout=5.0)
        stack.push_async_callback(worker.close)
        own = await stack.enter_async_context(served(worker.app()))
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=own))
        yield Stage(worker, ledger, client)


@asynccontextmanager
async def posting_to(app: Starlette, **options: Any) -> AsyncIterator[DemoWorker]:
    async with served(app) as address:
        worker = DemoWorker("worker-1", address, SIGNATURE, URL, **options)
        try:
            yield worker
        finally:
            await worker.close()


def connected(worker: DemoWorker, *sessions: str) -> bool:
    return all(worker.state(session)[0] == "connected" for session in sessions)


# --- a session's life


async def test_a_started_session_logs_in_and_says_so() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 7)
        assert reports(stage.worker) == {ONE: {"fence": 7, "state": "qr_scanning", "phone": None}}
        await until(lambda: len(stage.ledger.deliveries) == 2)
        assert stage.events(ONE) == ["session_authenticated", "session_ready"]
        assert reports(stage.worker) == {ONE: {"fence": 7, "state": "connected", "phone": traffic.phone(ONE)}}


async def test_a_stopped_session_is_gone_from_here_without_a_word() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        await until(lambda: stage.worker.counts.accepted.total() == 2)
        await stage.worker.stop(ONE)
        await stage.worker.stop(ONE)
        assert reports(stage.worker) == {}
        assert stage.worker.counts.sent.total() == 2


async def test_starting_twice_keeps_the_session_and_the_higher_fence() -> None:
    async with on_stage() as stage:
        for fence in (3, 5, 4):
            await stage.worker.start(ONE, fence)
        await until(lambda: stage.worker.counts.accepted.total() == 2)
        assert reports(stage.worker)[ONE]["fence"] == 5
        assert stage.events(ONE) == ["session_authenticated", "session_ready"]


async def test_what_a_session_had_to_say_is_still_sent_when_it_stops() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        await until(lambda: connected(stage.worker, ONE))
        for _ in range(20):
            await stage.ask("POST", "/api/messages/send", json=sending(ONE))
        await stage.worker.stop(ONE)
        assert stage.ledger.events["message_sent"] == 20


async def test_a_session_that_comes_back_waits_for_the_end_of_its_own_drain() -> None:
    async with on_stage(traffic=True, minute=0.05) as stage:
        await stage.worker.start(ONE, 1)
        await until(lambda: len(sequences(stage.ledger, ONE)) >= 5)
        for fence in range(2, 6):
            stopping = asyncio.create_task(stage.worker.stop(ONE))
            await asyncio.sleep(0)
            await stage.worker.start(ONE, fence)
            await stopping
            before = len(sequences(stage.ledger, ONE))
            await until(lambda before=before: len(sequences(stage.ledger, ONE)) >= before + 5)
        assert reports(stage.worker)[ONE]["fence"] == 5
        assert (stage.ledger.out_of_order, stage.ledger.repeated) == (0, 0)


async def test_a_session_whose_lease_is_over_neither_answers_nor_speaks_though_nobody_stopped_it() -> None:
    async with on_stage(traffic=True, minute=0.1) as stage:
        fences: dict[str, int] = {ONE: 1, TWO: 1}
        stage.worker.fence_of = fences.get
        await stage.worker.start(ONE, 1)
        await stage.worker.start(TWO, 1)
        await until(lambda: len(sequences(stage.ledger, ONE)) >= 3)
        del fences[ONE]
        assert (await stage.ask("GET", f"/api/sessions/{ONE}/status")).status_code == 421
        two = len(stage.events(TWO))
        await until(lambda: len(stage.events(TWO)) >= two + 60, timeout=60)  # so has what was on its way already
        one, two = len(stage.events(ONE)), len(stage.events(TWO))
        await until(lambda: len(stage.events(TWO)) >= two + 30, timeout=60)
        assert len(stage.events(ONE)) == one


async def test_a_membership_is_told_of_a_session_that_a_person_ended() -> None:
    told: list[tuple[str, int]] = []
    async with on_stage() as stage:
        stage.worker.on_gone = lambda session, fence: told.append((session, fence))
        await stage.worker.start(ONE, 1)
        await stage.ask("DELETE", f"/api/sessions/{ONE}", 1)
        assert told == [(ONE, 1)]
        await stage.worker.start(ONE, 2)
        assert stage.worker.state(ONE)[0] == "qr_scanning"
        assert stage.worker.state(TWO) == ("starting", None, None)


async def test_a_create_that_the_membership_does_not_accept_is_misdirected_and_starts_nothing() -> None:
    async with on_stage() as stage:
        asked: list[tuple[str, int]] = []

        def accept(session: str, fence: int) -> bool:
            asked.append((session, fence))
            return session == TWO

        stage.worker.accept = accept
        for session, status in ((ONE, 421), (TWO, 200)):
            answer = await stage.ask("POST", "/api/sessions", 7, json={"session_id": session})
            assert answer.status_code == status
        assert asked == [(ONE, 7), (TWO, 7)]
        assert list(reports(stage.worker)) == [TWO]


# --- its traffic


async def test_events_of_every_session_arrive_signed_and_in_order() -> None:
    sessions = traffic.names(10)
    async with on_stage(traffic=True, minute=0.3) as stage:
        for session in sessions:
            await stage.worker.start(session, 1)
        await until(lambda: all(len(sequences(stage.ledger, session)) >= 6 for session in sessions))
        await stage.worker.close()
        for session in sessions:
            numbers = sequences(stage.ledger, session)
            for before, after in pairwise(numbers):
                skipped = before % 3 == 0 and after % 3 == 1 and after > before  # whole minutes, by a busy machine
                assert after == before + 1 or skipped, numbers
        assert stage.ledger.summary() | {"events": {}} == {
            "accepted": stage.worker.counts.sent.total(),
            "refused": 0,
            "unauthorized": 0,
            "repeated": 0,
            "out_of_order": 0,
            "events": {},
        }
        assert stage.worker.counts.accepted == stage.worker.counts.sent == stage.ledger.events
        assert not stage.worker.counts.lost


async def test_traffic_keeps_the_pace_of_the_minute() -> None:
    async with on_stage(traffic=True, minute=0.4) as stage:
        await stage.worker.start(ONE, 1)
        await until(lambda: stage.ledger.events["heartbeat"] >= 1)
        began, first = time.monotonic(), stage.ledger.events["heartbeat"]
        await until(lambda: stage.ledger.events["heartbeat"] >= first + 4)
        assert time.monotonic() - began > 3 * 0.4 - 0.05


async def test_the_next_worker_goes_on_counting_where_the_last_one_stopped() -> None:
    async with on_stage(traffic=True, minute=0.3) as stage, on_stage(traffic=True, minute=0.3) as other:
        await stage.worker.start(ONE, 1)
        await until(lambda: len(sequences(stage.ledger, ONE)) >= 3)
        await stage.worker.stop(ONE)
        await other.worker.start(ONE, 2)
        await until(lambda: len(sequences(other.ledger, ONE)) >= 3)
        assert sequences(other.ledger, ONE)[0] > sequences(stage.ledger, ONE)[-1]


async def test_webhooks_carry_the_headers_of_the_node_service() -> None:
    seen: list[Request] = []

    async def webhook(request: Request) -> Response:
        await request.body()
        seen.append(request)
        return JSONResponse({"status": "queued", "id": "evt-1"}, status_code=202)

    app = Starlette(routes=[Route("/api/whatsapp/webhooks/webjs", webhook, methods=["POST"])])
    async with posting_to(app, traffic=False) as worker:
        await worker.start(ONE, 1)
        await until(lambda: len(worker.accepted) == 2)
        headers = seen[0].headers
        assert headers["x-instance-url"] == URL
        assert headers["user-agent"] == "WhatsApp-WebJS-Service/1.0"
        assert headers["content-type"] == "application/json"
        assert len(headers["x-hmac-signature"]) == 64
        assert abs(int(headers["x-timestamp"]) - time.time()) < 10
        assert [(one.id, one.event, one.session) for one in worker.accepted] == [
            ("evt-1", "session_authenticated", ONE),
            ("evt-1", "session_ready", ONE),
        ]


# --- what is lost


async def test_a_refused_event_is_lost_and_counted_and_never_sent_again() -> None:
    async with on_stage(limit=3, traffic=True, minute=0.2) as stage:
        await stage.worker.start(ONE, 1)
        await until(lambda: stage.worker.counts.lost["429"] >= 5)
        await stage.worker.close()
        assert stage.ledger.accepted == stage.worker.counts.accepted.total() == 3
        assert stage.ledger.refused == stage.worker.counts.lost["429"] == stage.worker.counts.sent.total() - 3


async def test_nobody_there_and_nobody_answering_are_told_apart() -> None:
    held = asyncio.Event()

    async def hold(request: Request) -> Response:
        await held.wait()
        return Response()

    app = Starlette(routes=[Route("/{path:path}", hold, methods=["POST"])])
    async with posting_to(app, traffic=False, timeout=0.05) as worker:
        await worker.start(ONE, 1)
        await until(lambda: worker.counts.lost["timeout"] == 2)
        held.set()
    nowhere = DemoWorker("worker-2", "http://127.0.0.1:1", SIGNATURE, URL, traffic=False)
    await nowhere.start(ONE, 1)
    await until(lambda: nowhere.counts.lost["unreachable"] == 2)
    await nowhere.close()


async def test_a_receiver_that_hangs_neither_fills_the_memory_nor_holds_up_other_sessions() -> None:
    held = asyncio.Event()
    passed: list[str] = []

    async def hold(request: Request) -> Response:
        session = orjson.loads(await request.body())["data"]["session_id"]
        if session == ONE:
            await held.wait()
        passed.append(session)
        return Response()

    app = Starlette(routes=[Route("/{path:path}", hold, methods=["POST"])])
    async with posting_to(app, minute=0.001) as worker:
        await worker.start(ONE, 1)
        await until(lambda: worker.counts.lost["overflow"] > 0)
        await worker.start(TWO, 1)
        await until(lambda: passed.count(TWO) >= 5)
        assert ONE not in passed
        await worker.stop(ONE)
        assert worker.counts.lost["stopped"] > 1000
        held.set()


async def test_close_leaves_no_task_and_starts_nothing_more() -> None:
    before = asyncio.all_tasks()
    nowhere = DemoWorker("worker-1", "http://127.0.0.1:1", SIGNATURE, URL, minute=0.1)
    for session in traffic.names(20):
        await nowhere.start(session, 1)
    await nowhere.close()
    await nowhere.start(ONE, 2)
    assert reports(nowhere) == {}
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


# --- the HTTP API


def sending(session: str) -> dict[str, object]:
    return {"session_id": session, "workspace_id": 1, "recipient_phone": "+62812345", "message": "hello", "updates": {}}


async def test_a_placed_session_is_started_with_the_fence_it_came_with() -> None:
    async with on_stage() as stage:
        body = {"session_id": ONE, "workspace_id": 1, "account_id": 5, "api_key": "k", "priority": "high"}
        answer = await stage.ask("POST", "/api/sessions", 4, body)
        assert (answer.status_code, answer.json()) == (
            200,
            {"success": True, "session_id": ONE, "status": "qr_scanning"},
        )
        assert reports(stage.worker)[ONE]["fence"] == 4
        await until(lambda: connected(stage.worker, ONE))
        assert (await stage.ask("POST", "/api/sessions", 4, body)).json()["status"] == "connected"
        assert (await stage.ask("POST", "/api/sessions", 3, body)).status_code == 421
        assert (await stage.ask("POST", "/api/sessions", 5, body)).status_code == 421


async def test_a_session_that_nobody_placed_is_not_started() -> None:
    async with on_stage() as stage:
        assert (await stage.ask("POST", "/api/sessions", json={"session_id": ONE})).status_code == 421
        assert reports(stage.worker) == {}


async def test_the_list_and_the_status_are_those_of_the_contract() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        await until(lambda: connected(stage.worker, ONE))
        status = (await stage.ask("GET", f"/api/sessions/{ONE}/status?api_key=k&workspace_id=1")).json()
        assert status.pop("connected_at").endswith("Z")
        assert status.pop("last_activity").endswith("Z")
        assert status == {
            "session_id": ONE,
            "status": "connected",
            "phone_number": traffic.phone(ONE),
            "workspace_id": 1,
        }
        sessions = (await stage.ask("GET", "/api/sessions")).json()["sessions"]
        assert [each["session_id"] for each in sessions] == [ONE]


REQUESTS = [
    ("GET", "/api/sessions/{}/status"),
    ("GET", "/api/sessions/{}/metadata"),
    ("PUT", "/api/sessions/{}/metadata"),
    ("POST", "/api/sessions/{}/reconnect"),
    ("POST", "/api/sessions/{}/restore"),
    ("POST", "/api/sessions/{}/regenerate-qr"),
    ("POST", "/api/messages/send"),
    ("DELETE", "/api/sessions/{}"),
]


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_only_the_owner_of_this_very_lease_answers(method: str, path: str) -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 5)
        for session, fence, status in [(TWO, None, 421), (TWO, 5, 421), (ONE, 4, 421), (ONE, 6, 421), (ONE, 5, 200)]:
            answer = await stage.ask(method, path.format(session), fence, sending(session))
            assert (answer.status_code, answer.headers["x-demo-worker"]) == (status, "worker-1")
            if status == 421:
                assert answer.json() == {"success": False, "error": "not the owner"}


async def test_a_sent_message_gets_an_id_and_comes_back_as_an_event() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        answer = await stage.ask("POST", "/api/messages/send", 1, sending(ONE))
        body = answer.json()
        assert body["success"] is True
        assert body["message_id"].startswith("true_62812345@c.us_")
        assert abs(body["timestamp"] - time.time()) < 10
        await until(lambda: stage.ledger.events["message_sent"] == 1)


async def test_a_send_that_has_an_id_is_called_so_and_sent_only_once() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        headers = {"X-Sluice-Fence": "1", "X-Sluice-Message-Id": "msg-7"}
        ask = {"json": sending(ONE), "headers": headers}
        first, again = [await stage.client.post("/api/messages/send", **ask) for _ in range(2)]
        assert first.json()["message_id"] == "msg-7"
        assert again.json() == first.json()
        other = await stage.client.post("/api/messages/send", json=sending(ONE), headers={"X-Sluice-Message-Id": "b"})
        assert other.json()["message_id"] == "b"
        await until(lambda: stage.ledger.events["message_status_updated"] == 2)
        assert stage.ledger.events["message_sent"] == 2


async def test_a_send_that_was_refused_may_be_repeated_under_its_id() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 5)
        await until(lambda: connected(stage.worker, ONE))
        ask = {"X-Sluice-Message-Id": "msg-7"}
        refused = await stage.client.post(
            "/api/messages/send", json=sending(ONE), headers={**ask, "X-Sluice-Fence": "4"}
        )
        assert refused.status_code == 421
        sent = await stage.client.post("/api/messages/send", json=sending(ONE), headers={**ask, "X-Sluice-Fence": "5"})
        assert sent.json()["message_id"] == "msg-7"


async def test_a_deleted_session_does_not_run_here_any_more() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        answer = await stage.ask("DELETE", f"/api/sessions/{ONE}", 1)
        assert answer.json() == {"success": True, "session_id": ONE, "message": "Session disconnected"}
        assert reports(stage.worker) == {}
        assert (await stage.ask("GET", f"/api/sessions/{ONE}/status")).status_code == 421


async def test_a_new_qr_code_is_announced_and_the_session_comes_back() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        await until(lambda: connected(stage.worker, ONE))
        answer = await stage.ask("POST", f"/api/sessions/{ONE}/regenerate-qr")
        restarted = {"success": True, "session_id": ONE, "status": "qr_scanning", "expires_in": 300}
        assert answer.json() == restarted
        await until(lambda: len(stage.ledger.deliveries) == 5)
        assert stage.events(ONE)[2:] == ["qr_code_generated", "session_authenticated", "session_ready"]


async def test_many_reconnects_at_once_leave_one_life() -> None:
    async with on_stage(traffic=True, minute=0.2) as stage:
        await stage.worker.start(ONE, 1)
        await asyncio.gather(*(stage.ask("POST", f"/api/sessions/{ONE}/reconnect") for _ in range(10)))
        await until(lambda: len(sequences(stage.ledger, ONE)) >= 6)
        assert (stage.ledger.repeated, stage.ledger.out_of_order) == (0, 0)


async def test_metadata_is_kept_while_the_session_runs_here() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        await stage.ask("PUT", f"/api/sessions/{ONE}/metadata", json={"updates": {"label": "shop"}})
        answer = await stage.ask("GET", f"/api/sessions/{ONE}/metadata")
        assert answer.json() == {"success": True, "session_id": ONE, "metadata": {"label": "shop"}}


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (b"nil", 400, "the body is not JSON: invalid literal, expected 'null': line 1 column 1 (char 0)"),
        (b"[]", 400, "the body is not a JSON object"),
        (b"{}", 400, "session_id is missing or not a text"),
        (b'{"session_id":7}', 400, "session_id is missing or not a text"),
        (b'{"session_id":"s","recipient_phone":"62812"}', 400, "message is missing or not a text"),
        (b" " * (50 * 2**20 + 1), 413, "the body is larger than 50 MiB"),
    ],
)
async def test_wrong_input_gets_a_clear_error(content: bytes, status: int, error: str) -> None:
    async with on_stage() as stage:
        answer = await stage.client.post("/api/messages/send", content=content)
        assert (answer.status_code, answer.json()) == (status, {"success": False, "error": error})


async def test_a_fence_that_is_no_number_is_refused() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        answer = await stage.ask("GET", f"/api/sessions/{ONE}/status", "first")
        assert (answer.status_code, answer.json()["error"]) == (400, "X-Sluice-Fence is not a number")


async def test_health_tells_who_it_is_and_what_became_of_the_events() -> None:
    async with on_stage() as stage:
        await stage.worker.start(ONE, 1)
        await until(lambda: stage.worker.counts.accepted.total() == 2)
        health = (await stage.ask("GET", "/health")).json()
        assert health["worker"] == "worker-1"
        assert health["sessions"] == {"total": 1, "connected": 1, "disconnected": 0}
        assert health["events"]["accepted"] == {"session_authenticated": 1, "session_ready": 1}
        for path in ("/health/ready", "/health/live"):
            assert (await stage.ask("GET", path)).json() == {"ready": True, "alive": True}
        lines = (await stage.ask("GET", "/demo/accepted")).content.splitlines()
        assert [orjson.loads(line)["event"] for line in lines] == ["session_authenticated", "session_ready"]
        missing = await stage.ask("GET", "/nothing")
        assert (missing.status_code, missing.headers["x-demo-worker"]) == (404, "worker-1")
