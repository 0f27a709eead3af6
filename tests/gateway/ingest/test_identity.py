"""By what a repeat is known: events, sessions, ids, and what the receiver is told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.process import open_queue
from relay.queue.codec import Delivery
from relay.queue.queue import Queue, Settlement
from sluice.http.signatures import sign
from sluice.store.client import Store
from tests.gateway.running import Gate, gateway

pytestmark = pytest.mark.anyio

POLICIES = """
version: 1
store: {{url: "{store}", promise: memory}}
signatures:
  workers: {{preset: blazz, secret: env:SECRET}}
  waha: {{preset: waha, secret: env:SECRET}}
  standard: {{preset: standard, secret: env:WHSEC}}
  github: {{preset: body-sha256, secret: env:SECRET}}
routes:
  - {{path: /workers, methods: [POST], verify: workers, event: {{json: /event}}, session: {{json: /data/session_id}},
     relay: laravel}}
  - {{path: /headed, methods: [POST], verify: workers, event: {{header: X-Event}},
     session: {{header: X-Session}}, relay: laravel}}
  - {{path: /waha, methods: [POST], verify: waha, event: call, session: {{json: /session}}, relay: laravel}}
  - {{path: /standard, methods: [POST], verify: standard, event: call, session: {{json: /session}}, relay: laravel}}
  - {{path: /github, methods: [POST], verify: github, event: call, relay: laravel}}
  - {{path: /plain, methods: [POST], event: call, session: {{json: /session}}, relay: laravel}}
relay:
  endpoints: {{laravel: {{url: "http://127.0.0.1:1"}}}}
  events: {{message_status_updated: {{keep: latest, by: /data/message_id}}}}
"""
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Told = dict[str, Any]


class Door:
    """A gateway, and what it has stored."""

    def __init__(self, gate: Gate, queue: Queue) -> None:
        self._gate = gate
        self.queue = queue

    async def post(
        self, path: str, content: Told, *, ago: int = 0, headers: dict[str, str] | None = None, own_id: str = ""
    ) -> Told:
        """Signed so many seconds ago."""
        name, body = path.strip("/").replace("headed", "workers"), orjson.dumps(content)
        signature = self._gate.policies.signatures.get(name)
        signed = sign(signature, body, time.time() - ago, own_id.encode() or None) if signature else []
        sent = {key.decode(): value.decode() for key, value in signed} | (headers or {})
        answer = await self._gate.http.post(path, content=body, headers=sent)
        told: Told = answer.json()
        assert answer.status_code == (422 if told["status"] == 422 else 202), answer.text
        return told

    async def delivered(self) -> list[Delivery]:
        """All that waits, now taken by its receiver."""
        found: list[Delivery] = []
        settled: list[Settlement] = []
        while True:
            self.queue.look_everywhere()
            leased = (await self.queue.poll(settled, 100)).leased
            if not leased:
                return found
            found += leased
            settled = [Settlement(delivery, "delivered") for delivery in leased]


@pytest.fixture
async def door(tmp_path: Path, store_url: str, store: Store) -> AsyncIterator[Door]:
    text = POLICIES.replace("env:WHSEC", f"file:{tmp_path}/whsec")
    (tmp_path / "whsec").write_text(WHSEC)
    async with gateway(tmp_path, store_url, "", text=text) as gate:
        yield Door(gate, open_queue(store, gate.policies.relay.endpoints["laravel"], gate.policies))


def message(kind: str, session: str = "s1", **data: object) -> Told:
    return {"event": kind, "data": {"session_id": session, **data}}


RECEIVED = message("message_received", message={"id": "m1", "body": "hello"})
DELIVERED = message("message_status_updated", message_id="m1", status="delivered")


@pytest.mark.parametrize(
    "content",
    [
        RECEIVED,
        message("message_sent", message={"id": "m1"}),
        DELIVERED,
        message("message_delivered", message_id="m1", recipient="r1"),
        message("message_read", message_id="m1", recipient="r1"),
    ],
    ids=lambda content: str(content["event"]),
)
async def test_a_repeat_of_a_message_is_known_however_late_it_is_signed(door: Door, content: Told) -> None:
    first = await door.post("/workers", content, ago=60)
    again = await door.post("/workers", content, ago=50)
    assert (again["id"], again["repeat"]) == (first["id"], True)
    assert [delivery.id for delivery in await door.delivered()] == [first["id"]]
    long_after = await door.post("/workers", content)
    assert long_after["repeat"], "after it was delivered, too"
    assert await door.delivered() == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (RECEIVED, message("message_received", message={"id": "m2", "body": "hello"})),
        (RECEIVED, message("message_received", "s2", message={"id": "m1", "body": "hello"})),
        (RECEIVED, message("message_sent", message={"id": "m1", "body": "hello"})),
        (
            message("message_read", message_id="m1", recipient="a"),
            message("message_read", message_id="m1", recipient="b"),
        ),
        (message("message_read", message_id="m1"), message("message_delivered", message_id="m1")),
        (message("message_received", message={"id": 1}), message("message_received", message={"id": 12})),
    ],
)
async def test_what_differs_in_one_of_them_is_another_event(door: Door, one: Told, other: Told) -> None:
    ids = {(await door.post("/workers", content))["id"] for content in (one, other)}
    assert len(ids) == 2
    assert len(await door.delivered()) == 2


@pytest.mark.parametrize(
    "content",
    [
        message("typing_indicator", contact_id="c", is_typing=True),
        message("session_ready", status="connected"),
        message("message_received", message={"body": "no id"}),
        message("message_received", message={"id": ""}),
        message("message_received", message={"id": {"_serialized": "m1"}}),
        message("message_received", message=None),
    ],
)
async def test_an_event_without_an_id_is_never_taken_for_a_repeat_once_it_is_signed_anew(
    door: Door, content: Told
) -> None:
    first, again = [await door.post("/workers", content, ago=ago) for ago in (9, 3)]
    assert first["id"] != again["id"]
    assert "repeat" not in again
    assert len(await door.delivered()) == 2


async def test_the_same_bytes_under_the_same_signature_are_a_repeat(door: Door) -> None:
    content = message("session_ready", status="connected")
    at = int(time.time()) - 30
    answers = [await door.post("/workers", content, ago=int(time.time()) - at) for _ in range(2)]
    assert answers[1] == answers[0] | {"repeat": True}
    assert len(await door.delivered()) == 1
    assert (await door.post("/workers", content, ago=int(time.time()) - at))["repeat"], "after it was delivered, too"


async def test_a_newer_receipt_replaces_a_waiting_one_whose_repeat_does_not_come_back(door: Door) -> None:
    await door.post("/workers", message("message_status_updated", message_id="m1", status="sent"), ago=30)
    await door.post("/workers", DELIVERED, ago=20)
    assert (await door.post("/workers", message("message_status_updated", message_id="m1", status="sent"), ago=10))[
        "repeat"
    ]
    assert (await door.post("/workers", DELIVERED))["repeat"]
    assert [orjson.loads(delivery.body) for delivery in await door.delivered()] == [DELIVERED]


async def test_the_body_is_looked_into_even_where_the_route_reads_nothing_from_it(door: Door) -> None:
    for n, event in enumerate(
        ("message_received", "message_received", "message_status_updated", "message_status_updated")
    ):
        content = RECEIVED if n < 2 else message("message_status_updated", message_id="m1", status=n)
        told = await door.post("/headed", content, ago=9 - n, headers={"X-Event": event, "X-Session": "s1"})
        assert ("repeat" in told) == (n == 1)
    assert (await door.queue.counts()).waiting == 2, "one message, and the newer of two receipts"


# --- ids in headers


async def test_an_idempotency_key_is_scoped_by_the_session(door: Door) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await door.post("/workers", RECEIVED, headers=key)
    other = await door.post("/workers", message("message_received", "s2", message={"id": "m1"}), headers=key)
    assert first["id"] != other["id"]
    assert (await door.post("/workers", RECEIVED, ago=9, headers=key))["repeat"]


async def test_standards_own_id_is_what_the_receiver_is_told(door: Door) -> None:
    first = await door.post("/standard", {"session": "s1"}, ago=20, own_id="msg_1")
    again = await door.post("/standard", {"session": "s1"}, own_id="msg_1")
    other = await door.post("/standard", {"session": "s2"}, own_id="msg_1")
    assert (again["id"], again["repeat"]) == (first["id"], True)
    assert other["id"] != first["id"]
    delivered = await door.delivered()
    assert {(delivery.session, delivery.public_id) for delivery in delivered} == {("s1", "msg_1"), ("s2", "msg_1")}
    assert {delivery.id for delivery in delivered} == {first["id"], other["id"]}
    assert [
        name for delivery in delivered for name, _ in delivery.headers if name.lower().startswith(b"webhook-")
    ] == []


async def test_wahas_own_id_is_known_and_sent_on_in_its_own_header(door: Door) -> None:
    answers = [await door.post("/waha", {"session": "s1"}, ago=ago, own_id="01JBQ8") for ago in (9, 0)]
    assert answers[1] == answers[0] | {"repeat": True}
    (delivery,) = await door.delivered()
    sent_on = {name.lower(): value for name, value in delivery.headers}
    assert (delivery.public_id, sent_on[b"x-webhook-request-id"]) == ("01JBQ8", b"01JBQ8")
    assert b"x-webhook-hmac" not in sent_on


async def test_who_signs_the_body_alone_is_known_by_an_id_only(door: Door) -> None:
    guid = {"X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958"}
    answers = [await door.post("/github", {"a": 1}, headers=headers) for headers in (guid, guid, {}, {})]
    assert ["repeat" in told for told in answers] == [False, True, False, False]


@pytest.mark.parametrize("own_id", ["a,b", "x" * 256, "with blank"])
async def test_an_id_that_could_not_be_sent_on_is_none(door: Door, own_id: str) -> None:
    answers = [await door.post("/waha", {"session": "s1"}, own_id=own_id) for _ in range(2)]
    assert "repeat" not in answers[1]
    assert {delivery.public_id for delivery in await door.delivered()} == {told["id"] for told in answers}


async def test_an_id_header_of_another_preset_says_nothing(door: Door) -> None:
    answers = [
        await door.post("/workers", message("session_ready"), ago=ago, headers={"Webhook-Id": "msg_1"})
        for ago in (9, 0)
    ]
    assert "repeat" not in answers[1]


OTHER_CONTENT = (
    "an event with this id or key was accepted before, with other content (relay.dedupe); "
    "give each event an id of its own, and a repeat the same content"
)


@pytest.mark.parametrize("path", ["/standard", "/waha", "/plain"])
async def test_the_same_id_with_other_content_is_refused_while_it_waits_and_after_it_has_left(
    door: Door, path: str
) -> None:
    more: dict[str, Any] = {"headers": {"Idempotency-Key": "k1"}} if path == "/plain" else {"own_id": "msg_1"}
    first = await door.post(path, {"session": "s1", "n": 1}, **more)
    other = await door.post(path, {"session": "s1", "n": 2}, **more)
    assert (other["status"], other["detail"]) == (422, OTHER_CONTENT)
    assert [delivery.id for delivery in await door.delivered()] == [first["id"]]
    assert (await door.post(path, {"session": "s1", "n": 2}, **more))["status"] == 422
    assert (await door.post(path, {"session": "s1", "n": 1}, **more))["repeat"]
    assert (await door.post(path, {"session": "s2", "n": 2}, **more))["status"] == "queued", "of another session"


async def test_a_message_is_known_by_its_id_whatever_else_is_in_it(door: Door) -> None:
    """An existing worker would lose what is answered 422."""
    await door.post("/workers", RECEIVED, ago=9)
    assert (await door.post("/workers", message("message_received", message={"id": "m1", "body": "edited"})))["repeat"]
