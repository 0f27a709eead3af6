"""The demo's webhooks, as the Node service posts them: signed, one after the other per session, 10 s each, never again
when refused. What that loses is counted, so that a run shows what stands between the workers and Laravel."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson

from sluice.config import Signature
from sluice.demo.laravel import KEPT
from sluice.demo.traffic import Event
from sluice.http.signatures import sign

WEBHOOKS = "/api/whatsapp/webhooks/webjs"
TIMEOUT = 10.0
"""Seconds for one webhook, from connecting to the end of the answer."""
_WAITING = 1_000
_CONNECTIONS = 200


@dataclass(frozen=True, slots=True)
class Accepted:
    """A webhook that was answered 2xx."""

    id: str | None
    """The `id` of the answer; Laravel gives none."""
    event: str
    session: str
    sequence: int | None


@dataclass(slots=True)
class Counts:
    sent: Counter[str] = field(default_factory=Counter)
    """By event type: posts that were begun."""
    accepted: Counter[str] = field(default_factory=Counter)
    """By event type: posts that were answered 2xx."""
    lost: Counter[str] = field(default_factory=Counter)
    """By why: the answer's status, `timeout`, `unreachable`, `overflow` (never sent: too many waited), `stopped`."""


class Webhooks:
    """Posts to Laravel, once each, and counts what became of it."""

    def __init__(self, laravel_url: str, signature: Signature, url: str, timeout: float) -> None:
        self.counts = Counts()
        self.accepted: deque[Accepted] = deque(maxlen=KEPT)
        self._address = laravel_url.rstrip("/") + WEBHOOKS
        self._signature = signature
        self._timeout = timeout
        self._headers = [
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"WhatsApp-WebJS-Service/1.0"),
            (b"X-Instance-Url", url.encode()),
            (b"Connection", b"close"),
        ]
        limits = httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=0)
        self._client = httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False)

    def of(self, session: str, fence: int) -> SessionWebhooks:
        return SessionWebhooks(self, session, fence)

    def counted(self) -> dict[str, dict[str, int]]:
        return {"sent": self.counts.sent, "accepted": self.counts.accepted, "lost": self.counts.lost}

    async def post(self, event: Event, fence: int) -> None:
        """`fence`: the one under which its session runs, for who refuses what a former owner sends."""
        self.counts.sent[event["event"]] += 1
        body = orjson.dumps(event)
        headers = [*self._headers, (b"X-Sluice-Fence", b"%d" % fence), *sign(self._signature, body, time.time())]
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._client.post(self._address, content=body, headers=headers)
        except asyncio.CancelledError:
            self.counts.lost["stopped"] += 1
            raise
        except (TimeoutError, httpx2.TimeoutException):
            self.counts.lost["timeout"] += 1
        except httpx2.RequestError:
            self.counts.lost["unreachable"] += 1
        else:
            self._answered(event, answer)

    async def close(self) -> None:
        await self._client.aclose()

    def _answered(self, event: Event, answer: httpx2.Response) -> None:
        if not answer.is_success:
            self.counts.lost[str(answer.status_code)] += 1
            return
        self.counts.accepted[event["event"]] += 1
        data = event["data"]
        self.accepted.append(Accepted(_id(answer), event["event"], data["session_id"], data.get("sequence")))


class SessionWebhooks:
    """Of one session, in their order."""

    def __init__(self, webhooks: Webhooks, session: str, fence: int) -> None:
        self.fence = fence
        self.workspace: int | None = None
        self.on_accepted: Callable[[], None] = lambda: None
        self._webhooks = webhooks
        self._session = session
        self._queue: asyncio.Queue[Event] = asyncio.Queue(_WAITING)
        self._sending = asyncio.create_task(self._send())

    def emit(self, event: str, data: Mapping[str, Any]) -> None:
        content = {"workspace_id": self.workspace, "session_id": self._session, **data}
        try:
            self._queue.put_nowait({"event": event, "data": content})
        except asyncio.QueueFull:
            self._webhooks.counts.lost["overflow"] += 1

    async def end(self, within: float) -> None:
        """What waits has so many seconds to be sent."""
        try:
            async with asyncio.timeout(within):
                await self._queue.join()
        except TimeoutError:
            self._webhooks.counts.lost["stopped"] += self._queue.qsize()
        finally:
            self._sending.cancel()
            await asyncio.wait([self._sending])

    async def _send(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._webhooks.post(event, self.fence)
            finally:
                self._queue.task_done()


def _id(answer: httpx2.Response) -> str | None:
    try:
        content = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        return None
    return content["id"] if isinstance(content, dict) and isinstance(content.get("id"), str) else None
