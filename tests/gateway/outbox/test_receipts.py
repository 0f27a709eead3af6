"""Whose caller was promised our id gets it in the webhooks, too, and what they cost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson
import pytest

from gateway.ingest.identity import Webhook
from gateway.outbox import receipts
from gateway.outbox.receipts import HELD_FOR, MOST, MessageIds
from gateway.outbox.results import Promised, Results
from gateway.problems import Refusal
from gateway.workers.target import Target
from sessions.registry import Registry, Worker
from sluice.config import Secret, Signature
from sluice.http.senders import sender_of
from sluice.http.server import RecordedExchange
from sluice.http.server.head import read_head
from sluice.store.client import Store, StoreAway
from tests.gateway.making import a_head
from tests.gateway.running import POLICIES, SECRET, Gate, Receiver, gateway
from tests.heard import Heard
from tests.sessions.making import place
from tests.sluice.http.client.upstream import Call
from tests.waiting import until

pytestmark = pytest.mark.anyio
W1 = Target("w1", "http://127.0.0.1:1", fence=7)
OURS = Target("w2", "http://127.0.0.1:2", fence=8, takes_ids=True)
EXISTING = sender_of(Signature("workers", "blazz", Secret(b"quite-secret"), 300.0))


def webhook(its: str = "W1", event: str = "message_status_updated", session: str | None = "s1") -> Webhook:
    data = {"message": {"id": its, "body": "hi"}} if event == "message_sent" else {"message_id": its}
    body = orjson.dumps({"event": event, "data": {"session_id": session, **data}})
    return Webhook(["laravel"], a_head((b"Host", b"shop.example")), body, None, event, session, EXISTING, None)


def sent(its: str | None, send: str = "evt_1", session: str = "s1") -> Promised:
    return Promised(
        send, session, "w1", orjson.dumps({"success": True, "message_id": its} if its else {"success": True})
    )


async def named(ids: MessageIds, of: Webhook, since: float | None = None) -> str:
    """What the stored webhook calls the message."""
    data = orjson.loads(await ids.body_of(of, time.monotonic() if since is None else since))["data"]
    return str(data["message"]["id"] if "message" in data else data["message_id"])


async def test_webhooks_about_a_message_have_the_id_that_its_caller_was_promised(store: Store) -> None:
    await MessageIds(store).promised(sent("W1"))
    other = MessageIds(store)  # of another gateway
    assert await named(other, webhook()) == "evt_1"
    assert await named(other, webhook(event="message_sent")) == "evt_1"
    assert await named(other, webhook("W2")) == "W2"
    assert await named(other, webhook(session="s2")) == "W1"


@pytest.mark.parametrize(
    ("answer", "its"),
    [
        (b'{"success":true,"total":1,"results":[{"recipient":"62","message_id":"W1"}],"errors":[]}', "W1"),
        (b'{"success":true}', None),
        (b'{"success":true,"message_id":""}', None),
        (b'{"success":true,"message_id":7}', None),
        (b'{"message_id":"%b"}' % (b"W" * 1000), None),
        (b'{"results":["W1"]}', None),
        (b"[]", None),
        (b"<html>", None),
    ],
)
async def test_what_a_worker_calls_the_message_stands_in_its_answer(
    store: Store, answer: bytes, its: str | None
) -> None:
    ids = MessageIds(store)
    await ids.begun("evt_1", "s1", W1)
    await ids.promised(Promised("evt_1", "s1", "w1", answer))
    assert await named(ids, webhook()) == ("evt_1" if its else "W1")


async def test_a_webhook_that_comes_before_the_answer_waits_for_it(store: Store) -> None:
    ids, other = MessageIds(store), MessageIds(store)
    await ids.begun("evt_1", "s1", W1)
    waiting = [asyncio.create_task(named(one, webhook(event="message_sent"))) for one in (ids, other)]
    await asyncio.sleep(0.3)
    assert not any(one.done() for one in waiting)
    await ids.promised(sent("W1"))
    assert await asyncio.gather(*waiting) == ["evt_1", "evt_1"]


async def test_a_webhook_waits_only_until_nobody_was_promised_anything(store: Store) -> None:
    ids = MessageIds(store)
    await ids.begun("evt_1", "s1", W1)
    waiting = asyncio.create_task(named(ids, webhook()))
    await asyncio.sleep(0.2)
    await ids.ended("evt_1", "s1")
    assert await waiting == "W1"


async def test_an_answer_that_does_not_come_keeps_a_webhook_for_a_bounded_time(store: Store) -> None:
    ids = MessageIds(store)
    await ids.begun("evt_1", "s1", W1)
    began = time.monotonic()
    assert await named(ids, webhook()) == "W1"
    assert HELD_FOR - 0.1 < time.monotonic() - began < HELD_FOR + 5
    assert await named(ids, webhook(session="s2")) == "W1", "another session waits for nothing"


async def test_no_more_wait_than_there_is_room_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "MAX_HELD", 1)
    ids = MessageIds(store)
    await ids.begun("evt_1", "s1", W1)
    waiting = asyncio.create_task(named(ids, webhook()))
    await asyncio.sleep(0.2)
    assert await named(ids, webhook("W2")) == "W2"
    assert not waiting.done()
    await ids.promised(sent("W1"))
    assert await waiting == "evt_1"
    await ids.begun("evt_2", "s1", W1)
    another = asyncio.create_task(named(ids, webhook("W2")))
    await asyncio.sleep(0.2)
    assert not another.done(), "who waited has left his place"
    await ids.promised(sent("W2", "evt_2"))
    assert await another == "evt_2"


async def test_the_end_of_one_send_does_not_end_the_waiting_for_the_next(store: Store) -> None:
    ids = MessageIds(store)
    await ids.begun("evt_2", "s1", W1)
    await ids.ended("evt_1", "s1")
    waiting = asyncio.create_task(named(ids, webhook("W2")))
    await asyncio.sleep(0.3)
    await ids.promised(sent("W2", "evt_2"))
    assert await waiting == "evt_2"


async def test_a_worker_that_takes_ids_is_told_ours_and_nothing_waits_for_its_answer(store: Store) -> None:
    ids = MessageIds(store)
    assert [field.line for field in ids.fields(OURS, "evt_1")] == [b"X-Sluice-Message-Id: evt_1\r\n"]
    assert (ids.run_of(OURS), ids.run_of(W1)) == ("8", "")
    await ids.begun("evt_1", "s1", OURS)
    assert await named(ids, webhook("evt_1")) == "evt_1"
    await ids.promised(sent("evt_1"))
    assert await store.commands(("KEYS", "sl:{receipts:*")) == [[]]


async def test_a_promise_that_is_noted_twice_is_noted_once(store: Store) -> None:
    ids = MessageIds(store)
    for _ in range(2):
        await ids.promised(sent("W1"))
    (order,) = [key for (keys,) in [await store.commands(("KEYS", "*order:s1"))] for key in keys]
    assert await store.commands(("LLEN", order)) == [1]


async def test_of_a_session_the_newest_messages_are_kept_and_of_a_quiet_one_none(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "MOST", 3)
    ids = MessageIds(store)
    for number in range(5):
        await ids.promised(sent(f"W{number}", f"evt_{number}"))
    assert [await named(ids, webhook(f"W{number}")) for number in range(5)] == ["W0", "W1", "evt_2", "evt_3", "evt_4"]
    ((first, second),) = await store.commands(("KEYS", "sl:{receipts:*"))
    for left in await store.commands(("PTTL", first), ("PTTL", second)):
        assert 6 * 86_400_000 < left <= 7 * 86_400_000 + 1000


async def test_the_most_of_a_session_take_about_a_megabyte(store: Store) -> None:
    ids = MessageIds(store)
    for start in range(0, MOST, 500):
        await asyncio.gather(
            *(ids.promised(sent(f"true_6281{n:08d}@c.us_{n:020X}", f"evt_{n:026d}")) for n in range(start, start + 500))
        )
    (keys,) = await store.commands(("KEYS", "sl:{receipts:*"))
    assert sum(await store.commands(*(("MEMORY", "USAGE", key) for key in keys))) < 1.5 * 2**20


async def test_webhooks_that_come_together_share_a_round_trip_and_others_take_none(store: Store) -> None:
    ids = MessageIds(store)
    await ids.promised(sent("W1"))
    before = store.trips
    assert await named(ids, webhook()) == "evt_1"
    assert store.trips == before + 1
    await asyncio.gather(*(named(ids, webhook(f"W{n}")) for n in range(50)))
    assert store.trips <= before + 3
    before = store.trips
    received = Webhook(
        ["laravel"],
        a_head((b"Host", b"shop.example")),
        b'{"data":{"message":{"id":"W1"}}}',
        None,
        "message_received",
        "s1",
        EXISTING,
        None,
    )
    assert await ids.body_of(received, time.monotonic()) is received.body
    for of in (webhook(""), webhook(session=None), webhook("W" * 600)):
        assert await ids.body_of(of, time.monotonic()) is of.body
    assert store.trips == before


async def test_while_the_store_is_away_a_webhook_waits_and_is_then_refused_as_its_sender_repeats_it() -> None:
    ids = MessageIds(Store("unix:///nonexistent/store.sock", timeout=0.2))
    with pytest.raises(Refusal) as refused:
        await ids.body_of(webhook(), time.monotonic() - EXISTING.hold + 0.3)
    assert (refused.value.status, refused.value.detail) == (429, "the store does not answer; send it again")
    with pytest.raises(StoreAway):
        await ids.begun("evt_1", "s1", W1)
    await ids.ended("evt_1", "s1")  # which nobody waits for


async def test_a_webhook_finds_the_id_also_where_the_gateway_was_killed_before_it_could_note_it(store: Store) -> None:
    ids, results = MessageIds(store), Results(store, "killed")
    body = orjson.dumps({"success": True, "message_id": "W1"})
    for send, session, promised in (("evt_1", "s1", True), ("evt_2", "s2", False)):
        await ids.begun(send, session, W1)
        if promised:
            assert await results.promise(send) is None
        answer = RecordedExchange(read_head(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n"), 1000)
        answer.begin(200, [], len(body), body, more=False)
        await results.end(send, session, "w1", answer, dead="", dead_if_promised="", kept=60.0)  # it notes no id
    began = time.monotonic()
    assert await named(ids, webhook(event="message_sent")) == "evt_1"
    assert await named(ids, webhook("another")) == "another"
    assert await named(ids, webhook(session="s2")) == "W1", "its caller got the worker's own answer"
    assert time.monotonic() - began < HELD_FOR


LIMIT = """
  - {{id: send, event: message_send, per: [session], rate: 600/minute, burst: 5, over: queue, hold: 50ms}}"""


async def test_webhooks_have_the_promised_id_also_after_the_limit_was_removed(
    tmp_path: Path, store_url: str, store: Store, laravel: Receiver, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    body = b'{"success":true,"message_id":"W1"}'

    async def answer_late(call: Call) -> None:
        await call.head()
        await asyncio.sleep(1.0)
        call.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    laravel.play = answer_late
    registry = Registry(store, 60.0)
    await registry.register(Worker("w1", "1", laravel.url, 5))
    await place(registry, "s1")
    kept = POLICIES.replace("\nlimits:", "\nlimits:" + LIMIT)
    async with gateway(tmp_path, store_url, laravel.url, text=kept) as gate:
        told = await gate.http.post("/api/messages/send", json={"session_id": "s1", "message": "hello"})
        assert told.status_code == 202
        await until(lambda: any(fields["outcome"] == "delivered" for _, fields in heard.lines), timeout=30)
        gate.policies.source.write_text(POLICIES.format(store=store_url, laravel=laravel.url, headers="10s"))
        await until(lambda: "policies.loaded" in heard.messages(), timeout=30)
        assert await read(gate, store, "of an edited gateway") == told.json()["id"]
    async with gateway(tmp_path, store_url, laravel.url) as gate:
        assert await read(gate, store, "of a new one") == told.json()["id"]


async def read(gate: Gate, store: Store, note: str) -> str:
    """What the message is called in the stored webhook that says it was read."""
    data = {"session_id": "s1", "message_id": "W1", "note": note}
    said = await gate.post_event(body=orjson.dumps({"event": "message_read", "data": data}))
    event = said.json()["id"].encode()
    for partition in range(4):
        (stored,) = await store.commands(("HGET", f"sl:{{{partition:02d}}}:events", event))
        if stored is not None:
            return str(orjson.loads(stored[stored.index(b'{"event"') :])["data"]["message_id"])
    raise AssertionError("it is not stored")
