"""Published over HTTP, delivered by the relay: signed by a preset to one receiver, in batches to another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from standardwebhooks import Webhook

from gateway import process as gateway
from gateway.policies import edits, load
from relay import process as relay
from sluice.http.server.serving import listening
from sluice.process.loops import Stop
from tests.relay.receiver import Got, receiver
from tests.waiting import until

pytestmark = pytest.mark.anyio

OLD, NEW = "whsec_" + "b2xk" * 8, "whsec_" + "bmV3" * 8
ENVIRONMENT = {"KEY": "publisher-key", "OLD": OLD, "NEW": NEW, "TENANT": "tenant-7"}
POLICIES = """
version: 1
store: {{url: "{store}"}}
signatures:
  publishers: {{preset: key, secret: env:KEY, header: Authorization}}
  laravel: {{preset: standard, secrets: [env:NEW, env:OLD]}}
relay:
  verify: publishers
  endpoints:
    laravel: {{url: "{laravel}/hooks", sign: laravel, headers: {{X-Tenant: env:TENANT}}}}
    archive: {{url: "{archive}/batch", sign: laravel, events: [message_*], batch: {{max: 10, wait: 50ms}}}}
"""
EVENTS = [{"type": "message_received", "session": "abc"[n % 3], "data": n} for n in range(30)]


def verified(got: Got) -> Any:
    """The body, by the word of the standard's own library and for either secret."""
    headers = {name.decode(): value.decode() for name, value in got.headers}
    assert Webhook(OLD).verify(got.body, headers) == Webhook(NEW).verify(got.body, headers)
    return orjson.loads(got.body)


def in_order(events: list[dict[str, object]]) -> bool:
    """Every event of every session once and after the one before it."""
    sessions = {event["session"]: [one for one in events if one["session"] == event["session"]] for event in events}
    return all(found == [one for one in EVENTS if one["session"] == name] for name, found in sessions.items())


async def test_what_is_published_is_delivered_in_order_signed_and_batched(tmp_path: Path, store_url: str) -> None:
    async with receiver() as laravel, receiver() as archive:
        path = tmp_path / "policies.yaml"
        path.write_text(POLICIES.format(store=store_url, laravel=laravel.url, archive=archive.url))
        policies, stop, bound = load(path, environment=ENVIRONMENT), Stop(), listening("127.0.0.1", 0)
        bound.listen()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with asyncio.TaskGroup() as group:
            group.create_task(gateway.run(policies, bound, stop, lambda _: []))
            group.create_task(relay.run(edits.live(policies), store_url, stop))
            key = {"Authorization": "Bearer publisher-key"}
            async with httpx2.AsyncClient(base_url=url, trust_env=False, headers=key) as http:
                told = await http.post("/_sluice/events", json=[*EVENTS, {"type": "typing", "path": "/typing"}])
                assert told.status_code == 202
                wrong = await http.post("/_sluice/events", json=EVENTS[0], headers={"Authorization": "Bearer guess"})
                assert wrong.status_code == 401
            await until(lambda: len(laravel.got) == 31, what="31 deliveries")
            await until(lambda: sum(len(orjson.loads(got.body)) for got in archive.got) == 30, what="the archive's 30")
            stop.request()
    typing = [got for got in laravel.got if got.line == b"POST /hooks/typing HTTP/1.1"]
    assert [verified(got) for got in typing] == [{"type": "typing", "path": "/typing"}]
    single = [verified(got) for got in laravel.got if got not in typing]
    assert in_order(single)
    assert in_order([event for got in archive.got for event in verified(got)])
    assert len(archive.got) < 30
    assert {got.all("x-tenant")[0] for got in laravel.got} == {b"tenant-7"}
    assert {got.all("authorization") == [] for got in laravel.got} == {True}
