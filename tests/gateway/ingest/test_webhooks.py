from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from gateway.ingest.hold import Hold
from gateway.ingest.identity import Webhook
from gateway.ingest.webhooks import Ingest, Receipt
from gateway.limits.decide import PASS
from gateway.policies import load
from gateway.problems import Refusal
from gateway.request import Json
from relay.process import open_queue
from relay.queue.codec import Delivery
from relay.queue.inbox import Inbox
from relay.queue.queue import Queue, Settlement
from sessions.instances import Instances
from sessions.registry import ObservedSession, Registry, SessionRow, Worker
from sluice.http.bodies import BodyBudget
from sluice.http.senders import USUAL
from sluice.store.client import Store
from tests.gateway.making import a_head

pytestmark = pytest.mark.anyio

POLICIES = """
version: 1
signatures:
  meta: {preset: body-sha256, secret: env:SECRET}
  partner: {preset: key, secret: env:SECRET, header: X-Partner-Key}
relay:
  endpoints:
    laravel: {url: "http://127.0.0.1:1"}
    archive: {url: "http://127.0.0.1:2", events: [message_*]}
    calls: {url: "http://127.0.0.1:3", events: [call]}
"""


Pairs = tuple[tuple[bytes, bytes], ...]
KEY = ((b"Idempotency-Key", b"k1"),)


class Gate:
    def __init__(self, folder: Path, store: Store, text: str = POLICIES) -> None:
        path = folder / "policies.yaml"
        path.write_text(text)
        policies = load(path, environment={"SECRET": "quite-secret"})
        self.queues: dict[str, Queue] = {
            name: open_queue(store, endpoint, policies) for name, endpoint in policies.relay.endpoints.items()
        }
        self.instances = Instances()
        self.registry = Registry(store, 600.0)
        hold = Hold(Inbox(store), BodyBudget(2**25))
        self.intake = Ingest(policies, self.queues, hold, self.instances, self.registry)

    async def accept(
        self, *endpoints: str, event: str = "message_received", shown: Pairs = (), worker: str | None = None
    ) -> Receipt:
        value = {"event": event, "data": {"phone_number": "628"}}
        head = a_head((b"Host", b"gate"), *shown)
        head.worker = worker
        webhook = Webhook(endpoints, head, orjson.dumps(value), Json(value), event, "s1", USUAL, None)
        return await self.intake.accept(webhook, PASS, time.monotonic())

    async def stored(self, endpoint: str) -> list[Delivery]:
        self.queues[endpoint].look_everywhere()
        return (await self.queues[endpoint].poll([], 10)).leased


@pytest.fixture
async def gate(tmp_path: Path, store: Store) -> Gate:
    return Gate(tmp_path, store)


async def test_an_event_is_stored_once_for_each_endpoint_of_its_route_that_takes_it(gate: Gate) -> None:
    taken = await gate.accept("laravel", "archive", "calls")
    assert taken == Receipt(taken.id, ("laravel", "archive"))
    for endpoint in ("laravel", "archive"):
        assert [delivery.id for delivery in await gate.stored(endpoint)] == [taken.id]
    assert await gate.stored("calls") == []
    assert taken.fields("second") == {"status": "queued", "id": taken.id, "promise": "second"}


async def test_an_event_that_no_endpoint_of_its_route_takes_is_ignored_and_said_to_be(gate: Gate) -> None:
    taken = await gate.accept("archive", "calls", event="typing_indicator")
    assert taken.endpoints == ()
    assert taken.fields("second") == {"status": "ignored", "id": taken.id}
    assert await gate.stored("archive") == []


async def test_what_a_worker_calls_itself_is_learnt_where_its_prefix_tells_which_one_it_is(gate: Gate) -> None:
    await gate.accept("laravel", shown=((b"X-Instance-Url", b"http://localhost:3009"),))
    assert gate.instances.of("w1") is None
    await gate.accept("laravel", shown=((b"X-Instance-Url", b"http://localhost:3001"),), worker="w1")
    assert gate.instances.of("w1") == "http://localhost:3001"


async def test_a_session_is_known_to_be_connected_as_soon_as_its_worker_says_that_it_is_ready(gate: Gate) -> None:
    """The worker may end before it is looked at again; Laravel drops what is for a session that is not connected."""
    await gate.registry.observe(Worker("w1", "observed", "http://w1:3001", 25), {"s1": ObservedSession("qr_scanning")})
    for worker in (None, "w2"):
        await gate.accept("laravel", event="session_ready", worker=worker)
        assert (await _row(gate)).state == "qr_scanning"
    await gate.accept("laravel", event="session_ready", worker="w1")
    assert ((await _row(gate)).state, (await _row(gate)).phone) == ("connected", "628")


async def _row(gate: Gate) -> SessionRow:
    row = await gate.registry.session("s1")
    assert row is not None
    return row


async def test_a_repeat_is_a_repeat_for_all_endpoints(gate: Gate) -> None:
    first = await gate.accept("laravel", "archive", shown=KEY)
    again = await gate.accept("laravel", "archive", shown=KEY)
    assert (again.id, again.repeat) == (first.id, True)
    assert again.fields("second")["repeat"] is True
    assert [(await gate.queues[name].counts()).waiting for name in ("laravel", "archive")] == [1, 1]


async def test_an_endpoint_whose_backlog_is_full_is_left_out_and_named(tmp_path: Path, store: Store) -> None:
    gate = Gate(tmp_path, store, POLICIES + "  backlog: {events: 1}\n")
    await gate.accept("archive")
    taken = await gate.accept("laravel", "archive")
    assert taken == Receipt(taken.id, ("laravel",), left_out=("archive",))
    assert orjson.loads(orjson.dumps(taken.fields("second")))["left_out"] == ["archive"]
    assert [delivery.id for delivery in await gate.stored("laravel")] == [taken.id]


async def test_a_repeat_brings_an_event_to_the_endpoint_that_had_left_it_out(tmp_path: Path, store: Store) -> None:
    gate = Gate(tmp_path, store, POLICIES + "  backlog: {events: 1}\n")
    await gate.accept("archive")
    first = await gate.accept("laravel", "archive", shown=KEY)
    (waiting,) = await gate.stored("archive")
    still = await gate.accept("laravel", "archive", shown=KEY)
    assert (still.repeat, still.endpoints, still.left_out) == (True, ("laravel",), ("archive",))
    await gate.queues["archive"].poll([Settlement(waiting, "delivered")], 0)
    again = await gate.accept("laravel", "archive", shown=KEY)
    assert (again.id, again.repeat, again.left_out) == (first.id, True, ())
    assert [one.id for one in await gate.stored("archive")] == [first.id]
    assert [one.id for one in await gate.stored("laravel")] == [first.id]


async def test_a_required_endpoint_that_is_full_refuses_the_event_for_all(tmp_path: Path, store: Store) -> None:
    text = POLICIES.replace("events: [message_*]", "events: [message_*], required: true")
    gate = Gate(tmp_path, store, text + "  backlog: {events: 1}\n")
    await gate.accept("archive")
    with pytest.raises(Refusal) as caught:
        await gate.accept("laravel", "archive")
    assert (caught.value.status, caught.value.retry_after) == (503, b"30")
    assert caught.value.detail == "the backlog of archive is full (relay.backlog)"
    assert await gate.stored("laravel") == []


async def test_no_proof_that_was_shown_to_us_is_sent_on(gate: Gate) -> None:
    names = (b"X-Hub-Signature-256", b"X-Partner-Key", b"X-HMAC-Signature", b"X-Api-Key")
    await gate.accept("laravel", shown=tuple((name, b"a") for name in names))
    (delivery,) = await gate.stored("laravel")
    assert [name for name, _ in delivery.headers if name in names] == []
