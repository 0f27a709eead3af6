"""The trace of an event: kept with it to each attempt, and told in its timeline and in the log."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx2
import orjson
import pytest

from gateway import process as gateway
from gateway.policies import edits, load
from relay import process as relay
from sessions.registry import Registry
from sluice.cli.target import Opened
from sluice.console.actions.events import EventDetails, ShowEvent, show
from sluice.http.server.serving import listening
from sluice.http.signatures import sign
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.heard import Heard
from tests.relay.receiver import receiver
from tests.waiting import until

pytestmark = pytest.mark.anyio

ID, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "c" * 32
PARENT, STATE = f"00-{ID}-00f067aa0ba902b7-01", "vendor=value"
POLICIES = """
version: 1
store: {{url: "{store}"}}
signatures:
  workers: {{preset: blazz, secret: env:KEY}}
  publishers: {{preset: key, secret: env:KEY, header: Authorization}}
routes:
  - {{path: /hooks, methods: [POST], verify: workers, event: {{json: /event}}, relay: laravel}}
relay:
  verify: publishers
  endpoints: {{laravel: {{url: "{laravel}", private: allow, retry: {{base: 10ms, cap: 10ms}}}}}}
"""


async def test_it_goes_with_each_attempt_of_an_event_and_is_told(tmp_path: Path, store: Store, heard: Heard) -> None:
    async with receiver() as laravel:
        path = tmp_path / "policies.yaml"
        path.write_text(POLICIES.format(store=store.url, laravel=laravel.url))
        policies, stop, bound = load(path, environment={"KEY": "the-key"}), Stop(), listening("127.0.0.1", 0)
        bound.listen()
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with asyncio.TaskGroup() as group, httpx2.AsyncClient(base_url=url, trust_env=False) as http:
            group.create_task(gateway.run(policies, bound, stop, lambda _: []))
            body = orjson.dumps({"event": "message"})
            proof = {name.decode(): value for name, value in sign(policies.signatures["workers"], body, time.time())}
            trace = {"traceparent": PARENT, "tracestate": STATE}
            told = await http.post("/hooks", content=body, headers={**proof, **trace})
            assert told.status_code == 202
            details = await show(
                Opened(policies, store, Registry(store, policies.sessions.lease)), ShowEvent(told.json()["id"])
            )
            assert isinstance(details, EventDetails)
            assert details.trace == ID

            events = [
                {"type": "published"},
                {"type": "of_its_own", "headers": {"traceparent": PARENT.replace(ID, OTHER)}},
            ]
            key = {"Authorization": "Bearer the-key"}
            assert (await http.post("/_sluice/events", json=events, headers={**key, **trace})).status_code == 202
            wrong = {"type": "wrong", "headers": {"traceparent": "00-x"}}
            answer = await http.post("/_sluice/events", json=wrong, headers=key)
            assert (answer.status_code, answer.json()["detail"]) == (
                400,
                "headers.traceparent: is no traceparent of W3C Trace Context, "
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )

            laravel.answer = lambda got: (500 if len(laravel.got) <= 3 else 200, b"")
            group.create_task(relay.run(edits.live(policies), store.url, stop))
            await until(
                lambda: len({got.all("webhook-id")[0] for got in laravel.got[3:]}) == 3, what="three deliveries"
            )
            stop.request()
    kept, own = ((PARENT.encode(),), (STATE.encode(),)), ((PARENT.replace(ID, OTHER).encode(),), ())
    found = {
        (got.all("webhook-id")[0], (tuple(got.all("traceparent")), tuple(got.all("tracestate")))) for got in laravel.got
    }
    assert sorted(trace for _, trace in found) == sorted([kept, kept, own]), "of each event the same at each attempt"
    attempts = [fields for message, fields in heard.lines if message == "delivery.attempted"]
    assert {fields["trace"] for fields in attempts} == {ID, OTHER}
