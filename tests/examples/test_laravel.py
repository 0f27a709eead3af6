"""examples/laravel on a real Laravel, between Sluice and workers that are processes of their own."""

from __future__ import annotations

import asyncio
import configparser
import hashlib
import hmac
import json
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from gateway.policies import load
from tests.contract.fleet import ENVIRONMENT, KEY, TOKEN, Sluice, shipped
from tests.contract.real_laravel import APPLICATION, RealLaravel, real_laravel
from tests.contract.running import SECRET, ContractWorker, log_in, worker
from tests.contract.whatsapp import WhatsApp, whatsapp
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WEBHOOKS = "/api/whatsapp/webhooks/webjs"
ONCE, QUEUED, BATCH = "/api/sluice/once", "/api/sluice/queued", "/api/sluice/batch"


@dataclass(slots=True)
class Stage:
    url: str
    app: RealLaravel
    workers: list[ContractWorker]
    phones: WhatsApp

    async def receive(self, session: str, number: int) -> None:
        """So many messages, one after the other, at the worker that runs the session."""
        for n in range(number):
            await self.workers[int(session[1:]) % 2].receive(session, identity=f"{session}-{n}")

    async def saved(self, number: int) -> None:
        def what() -> str:
            return f"{number} rows; there are {len(self.app.messages())}:\n{self.app.said()}"

        await until(lambda: len(self.app.messages()) >= number, timeout=90, what=what)

    async def told_of_inline(self) -> bool:
        """`status` says how many events Laravel has handled inline, and how long they took."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            status = (await http.get(f"{self.url}/_sluice/api/status", headers=headers)).json()
        inline = status["last_minute"]["handled"].get("laravel", {}).get("inline", {"events": 0, "mean_s": 0.0})
        return inline["events"] >= 4 and 0.001 < inline["mean_s"] < 60

    def orders(self) -> dict[str, list[str]]:
        """The ids of messages by session, as they were saved."""
        found: dict[str, list[str]] = {}
        for row in self.app.messages():
            found.setdefault(row["session_id"], []).append(row["message_id"])
        return found


@asynccontextmanager
async def stage(
    folder: Path,
    store_url: str,
    free_port: Callable[[], int],
    path: str = "",
    settings: dict[str, str] | None = None,
    *,
    queues: bool = False,
    **endpoint: Any,
) -> AsyncIterator[Stage]:
    """Sessions s0 to s3, of the workspaces 0 to 3, logged in at two workers. `path`: of the receiver that is tried."""
    ports = [free_port() for _ in range(4)]
    url = f"http://127.0.0.1:{ports[0]}"
    known = [
        {"name": f"w{n}", "url": f"http://127.0.0.1:{port}", "key": "env:NODE_KEY", "prefix": f"/w/w{n}"}
        for n, port in enumerate(ports[2:])
    ]
    written = shipped(store_url, ports[0], ports[1], known, advertise=url, lease="60s")
    receiver = written["relay"]["endpoints"]["laravel"]
    receiver |= {"url": f"http://127.0.0.1:{ports[1]}{path}", "timeout": "60s", **endpoint}
    if path == BATCH:  # which brings no headers of its events
        receiver["headers"] = {"X-Instance-Url": url}
    file = folder / "policies.yaml"
    file.write_text(yaml.safe_dump(written))
    given = {"WHATSAPP_NODE_API_KEY": KEY, "WHATSAPP_HMAC_RATE_LIMIT": "100000", **(settings or {})}
    async with AsyncExitStack() as stack:
        phones = await stack.enter_async_context(whatsapp())
        app = await stack.enter_async_context(real_laravel(ports[1], url, folder, **given))
        if queues:
            await app.start_queues()
        sluice = Sluice(load(file, environment=ENVIRONMENT))
        await sluice.start()
        stack.push_async_callback(sluice.stop)
        workers = []
        for n, port in enumerate(ports[2:]):
            one = worker(port, f"{url}/w/w{n}", folder, phones, "--api-key", KEY, "--name", f"w{n}", start=False)
            workers.append(await stack.enter_async_context(one))
        for n in range(4):
            app.add(f"s{n}", n, status="connected", phone_number=f"49{n}")
            log_in(folder / f"profiles-{ports[2 + n % 2]}", f"s{n}", n, f"49{n}")
        await asyncio.gather(*(one.start() for one in workers))

        def at_the_gateway() -> bool:
            rows = app.accounts().values()
            return all(row["status"] == "connected" and row["assigned_instance_url"] == url for row in rows)

        await until(at_the_gateway, timeout=90, what=lambda: f"the sessions at Laravel:\n{app.said()}")
        yield Stage(url, app, workers, phones)


async def post(app: RealLaravel, path: str, value: Any, **headers: str) -> tuple[int, Any]:
    """Signed, as Sluice and the workers do."""
    body, stamp = json.dumps(value).encode(), str(int(time.time()))
    proof = hmac.new(SECRET.encode(), stamp.encode() + body, hashlib.sha256).hexdigest()
    signed = {"X-HMAC-Signature": proof, "X-Timestamp": stamp, "Content-Type": "application/json", **headers}
    answer = await app.ask("POST", path, content=body, headers=signed)
    return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else answer.text


def sent(session: str, identity: str, **message: Any) -> dict[str, Any]:
    told = {"id": identity, "body": "hello", **message}
    return {"event": "message_sent", "data": {"workspace_id": 1, "session_id": session, "message": told}}


async def test_a_webhook_goes_to_laravel_which_asks_the_worker_and_sends_through_it(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    """Worker, Sluice, Laravel, Sluice, worker; the receiver is the one that the application had before. Without the
    answers that Laravel gets through Sluice before it saves a message there would be no row."""
    async with stage(tmp_path, store_url, free_port) as made:
        await made.receive("s1", 3)
        await made.saved(3)
        assert made.orders() == {"s1": ["s1-0", "s1-1", "s1-2"]}
        said = await made.app.send("s1", to="4915123456", message="and back")
        assert said["status"] == 200
        assert [(one.session, one.message) for one in made.phones.sent] == [("s1", "and back")]
        assert (await made.app.check("s2"))["value"]["status"] == "connected"
        await until(lambda: made.app.messages("message_sent"), timeout=60, what="the webhook of what was sent")
        assert made.phones.ran_twice() == []
        await until(made.told_of_inline, timeout=60, what="status to tell what Laravel handled inline")


@pytest.fixture
async def app(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[RealLaravel]:
    async with real_laravel(free_port(), "http://127.0.0.1:9", tmp_path, WHATSAPP_HMAC_RATE_LIMIT="8") as made:
        made.add("s1", 1)
        yield made


async def test_the_middleware_takes_what_is_signed_and_not_more_than_its_limit(app: RealLaravel) -> None:
    assert await post(app, WEBHOOKS, sent("s1", "m1")) == (200, {"status": "processed_inline"})
    assert await post(app, WEBHOOKS, sent("s1", "m1"), **{"X-Timestamp": "1"}) == (
        401,
        {"message": "Request timestamp expired"},
    )
    assert (await post(app, WEBHOOKS, sent("s1", "m1"), **{"X-HMAC-Signature": "0"}))[0] == 401
    answers = [await post(app, WEBHOOKS, sent("s1", f"m{n}")) for n in range(9)]
    assert [status for status, _ in answers] == [200] * 7 + [429] * 2
    other = {"X-Forwarded-For": "10.0.0.9"}
    assert (await post(app, WEBHOOKS, sent("s1", "m1"), **other))[0] == 200, "Sluice's address is trusted"


async def test_a_repeat_of_an_event_changes_nothing_and_one_that_failed_is_taken_again(app: RealLaravel) -> None:
    path = f"{ONCE}{WEBHOOKS}"
    answers = [post(app, path, sent("s1", "m1"), **{"Webhook-Id": "evt_1"}) for _ in range(3)]
    told = [value["status"] for _, value in await asyncio.gather(*answers)]
    assert sorted(told) == ["processed_inline", "repeated", "repeated"]
    assert len(app.messages("message_sent")) == 1
    read: dict[str, Any] = {"event": "message_status_updated", "data": {"session_id": "s1", "status": "read"}}
    assert (await post(app, path, read, **{"Webhook-Id": "evt_2"}))[0] == 500, "the job ran while the sender waited"
    read["data"]["message_id"] = "m1"
    assert await post(app, path, read, **{"Webhook-Id": "evt_2"}) == (200, {"status": "queued"})
    assert await post(app, path, read, **{"Webhook-Id": "evt_2"}) == (200, {"status": "repeated"})
    assert app.messages("message_sent")[0]["status"] == "read"


@pytest.fixture
async def dies() -> AsyncIterator[str]:
    """The address of somebody who takes a question, and is killed then."""

    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.close()

    async with await asyncio.start_server(reset, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


RECEIVED = {
    "event": "message_received",
    "data": {"workspace_id": 2, "session_id": "s2", "message": {"id": "m1", "body": "hello"}},
}


@pytest.mark.parametrize("there", [False, True])
async def test_a_message_about_which_no_worker_can_be_asked_is_answered_200_and_not_saved_but_logged(
    app: RealLaravel, dies: str, there: bool
) -> None:
    """As the application was before Sluice."""
    app.add("s2", 2, status="connected", assigned_instance_url=dies if there else None)
    assert await post(app, WEBHOOKS, RECEIVED) == (200, {"status": "processed_inline"})
    assert app.messages() == []
    assert '"message":"m1"' in app.log()


@pytest.mark.parametrize("there", [False, True])
async def test_where_it_asks_again_such_a_message_is_503_until_it_is_saved(
    tmp_path: Path, store_url: str, free_port: Callable[[], int], dies: str, there: bool
) -> None:
    async with stage(tmp_path, store_url, free_port, settings={"WHATSAPP_ASK_AGAIN": "true"}) as made:
        known = made.app.accounts()["s2"]["assigned_instance_url"]
        made.app.change("s2", assigned_instance_url=dies if there else "http://127.0.0.1:9")
        for _ in range(2):
            assert (await post(made.app, f"{ONCE}{WEBHOOKS}", RECEIVED, **{"Webhook-Id": "evt_1"}))[0] == 503
        assert made.app.messages() == []
        made.app.change("s2", assigned_instance_url=known)
        assert (await post(made.app, f"{ONCE}{WEBHOOKS}", RECEIVED, **{"Webhook-Id": "evt_1"}))[0] == 200
        assert [row["message_id"] for row in made.app.messages()] == ["m1"]


async def test_a_batch_stops_at_what_fails_in_its_session_alone(app: RealLaravel) -> None:
    batch = [sent("s1", "m1"), sent("s2", "m2"), {"event": "message_sent", "data": {"session_id": "s1"}}]
    batch += [sent("s1", "m4"), sent("s2", "m5")]
    ids = {"X-Sluice-Event-Ids": "e1,e2,e3,e4,e5"}
    assert await post(app, BATCH, batch, **ids) == (200, [200, 200, 500, 503, 200])
    batch[2] = sent("s1", "m3")
    assert await post(app, BATCH, batch, **ids) == (200, [200] * 5)
    assert [row["message_id"] for row in app.messages("message_sent")] == ["m1", "m2", "m5", "m3", "m4"]


async def test_many_messages_go_in_few_batches_each_once_and_in_order(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    async with stage(tmp_path, store_url, free_port, BATCH, batch={"max": 20, "wait": "300ms"}) as made:
        await asyncio.gather(*(made.receive(f"s{n}", 10) for n in range(4)))
        await made.saved(40)
        assert made.orders() == {f"s{n}": [f"s{n}-{m}" for m in range(10)] for n in range(4)}


async def test_queued_webhooks_are_handled_in_order_by_one_process_for_each_number(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    settings = {"QUEUE_CONNECTION": "database"}
    async with stage(tmp_path, store_url, free_port, QUEUED, settings, queues=True) as made:
        await asyncio.gather(*(made.receive(f"s{n}", 10) for n in range(4)))
        await made.saved(40)
        assert made.orders() == {f"s{n}": [f"s{n}-{m}" for m in range(10)] for n in range(4)}
        assert made.app.rows("SELECT * FROM failed_jobs") == []


async def test_what_is_urgent_is_taken_from_the_queue_first(tmp_path: Path, free_port: Callable[[], int]) -> None:
    settings = {"QUEUE_CONNECTION": "database", "WHATSAPP_QUEUE_WORKERS": "1"}
    async with real_laravel(free_port(), "http://127.0.0.1:9", tmp_path, **settings) as app:
        app.add("s1", 1)
        path = f"{QUEUED}{WEBHOOKS}"
        for n in range(5):
            assert await post(app, path, sent("s1", f"m{n}"), **{"Webhook-Id": f"m{n}"}) == (200, {"status": "queued"})
        code = {"event": "qr_code_generated", "data": {"workspace_id": 1, "session_id": "s1", "qr_code": "a picture"}}
        await post(app, path, code, **{"Webhook-Id": "code"})
        await app.artisan("queue:work", "--once", "--queue=whatsapp-urgent-0,messaging-0,bulk-0")
        assert app.accounts()["s1"]["qr_code"] == "a picture"
        assert app.messages("message_sent") == []
        await app.start_queues(1)
        await until(lambda: len(app.messages("message_sent")) == 5, timeout=90, what="the messages")


async def test_ids_of_events_are_forgotten_after_a_while(app: RealLaravel) -> None:
    await post(app, BATCH, [sent("s1", "m1")], **{"X-Sluice-Event-Ids": "e1"})
    await app.artisan("webhooks:prune")
    assert len(app.rows("SELECT * FROM webhook_events")) == 1
    await app.artisan("webhooks:prune", "--days=-1")
    assert app.rows("SELECT * FROM webhook_events") == []


def test_the_endpoints_of_its_page_are_policies(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (APPLICATION / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        written = shipped("embedded", 8080, 8000, [])
        written["relay"]["endpoints"] |= yaml.safe_load(block)["relay"]["endpoints"]
        (tmp_path / "policies.yaml").write_text(yaml.safe_dump(written))
        url = load(tmp_path / "policies.yaml", environment=ENVIRONMENT).relay.endpoints["laravel"].url
        assert f"'{url.partition('/api/')[2]}" in (APPLICATION / "routes" / "api.php").read_text()


def test_the_configuration_of_the_queues_is_that_of_the_application() -> None:
    read = configparser.RawConfigParser(comment_prefixes=(";",))
    read.read(APPLICATION / "supervisor" / "queues.conf")
    program = read["program:whatsapp-queue"]
    config = (APPLICATION / "config" / "whatsapp.php").read_text()
    assert f"env('WHATSAPP_QUEUE_WORKERS', {program['numprocs']})" in config
    lanes = re.search(r"--queue=(\S+)", program["command"])
    assert lanes is not None
    assert lanes[1] == "whatsapp-urgent-%(process_num)d,messaging-%(process_num)d,bulk-%(process_num)d"
    controller = (APPLICATION / "app/Http/Controllers/QueuedWebhookController.php").read_text()
    assert re.findall(r"=> '([a-z-]+)',", controller) == ["whatsapp-urgent", "messaging", "bulk"]
