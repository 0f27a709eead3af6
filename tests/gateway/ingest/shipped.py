"""The way in and the queue as the shipped policies have them, for webhooks as the existing workers send them."""

from __future__ import annotations

import time
from pathlib import Path

import orjson

from gateway.ingest.hold import Hold
from gateway.ingest.identity import Webhook
from gateway.ingest.webhooks import Ingest, Receipt
from gateway.limits.decide import PASS
from gateway.policies import load
from gateway.request import Json
from relay.process import open_queue
from relay.queue.codec import Delivery
from relay.queue.inbox import Inbox
from relay.queue.queue import Settlement
from sluice.http.bodies import BodyBudget
from sluice.http.senders import sender_of
from sluice.store.client import Store
from tests.gateway.making import a_head

ROOT = Path(__file__).parents[3]
SHIPPED, DEMO = ROOT / "policies.yaml", ROOT / "sluice" / "demo" / "policies.yaml"
Pairs = tuple[tuple[bytes, bytes], ...]


class Shipped:
    def __init__(self, store: Store, file: Path = SHIPPED, secret: str = "hmac") -> None:
        environment = {"WHATSAPP_HMAC_SECRET": secret, "SLUICE_CONSOLE_TOKEN": "token"}
        self.policies = policies = load(file, environment=environment, need_secrets=False)
        self.endpoint = policies.relay.endpoints["laravel"]
        self.queue = open_queue(store, self.endpoint, policies)
        self.ingest = Ingest(policies, {"laravel": self.queue}, Hold(Inbox(store), BodyBudget(2**25)))
        self._sender = sender_of(policies.signatures["workers"])

    async def accept(self, event: str, session: str = "s1", *, headers: Pairs = (), **data: object) -> Receipt:
        content = {"event": event, "data": {"workspace_id": 1, "session_id": session, **data}}
        body = orjson.dumps(content)
        head = a_head((b"Host", b"gate"), *headers, target=b"/api/whatsapp/webhooks/webjs")
        webhook = Webhook(("laravel",), head, body, Json(content), event, session, self._sender, None)
        return await self.ingest.accept(webhook, PASS, time.monotonic())

    async def leased(self, settled: list[Settlement] | None = None) -> list[Delivery]:
        """What may be sent now, the first of each session."""
        self.queue.look_everywhere()
        return (await self.queue.poll(settled or [], 100)).leased


def data_of(delivery: Delivery) -> dict[str, object]:
    data: dict[str, object] = orjson.loads(delivery.body)["data"]
    return data
