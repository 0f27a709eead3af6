"""A worker's webhooks: signed, in order for each session, and sent until they are accepted.

emit ──▶ the session's queue ──▶ POST ──▶ 2xx: accepted
              │ full: what is stale soonest goes first         ├──▶ 409: another worker has the session; it ends
              └ bounded in bytes                               ├──▶ 400, 401, …: it is wrong, and told in the log
                                                               └──▶ all else: again, after a pause
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import httpx2
import orjson

from sessions.worker.dropped import Dropped
from sluice.config import Signature
from sluice.http.signatures import sign
from sluice.observe.log import Log

LOG = Log("sessions.worker")
PATH = "/api/whatsapp/webhooks/webjs"
MAX_BYTES = 64 * 2**20
"""Of what waits for one session; media lie in it in base64."""
_STALE = frozenset({"typing_indicator", "chat_state_updated"})
_TIMEOUT = 15.0
_FIRST_PAUSE, _MAX_PAUSE = 0.2, 15.0
_AGAIN = frozenset({408, 421, 425, 429})


class Outgoing:
    """Of one worker. `counts`: those that were accepted, refused, dropped, or left when a session ended, by event."""

    def __init__(self, gateway: str, signature: Signature, instance_url: str, dropped: Dropped | None = None) -> None:
        self.dropped = dropped or Dropped()
        self._signature = signature
        self._headers = [
            (b"Content-Type", b"application/json"),
            (b"User-Agent", b"Sluice-Worker/1"),
            (b"X-Instance-Url", instance_url.encode()),
        ]
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=16)
        self._http = httpx2.AsyncClient(base_url=gateway, limits=limits, timeout=_TIMEOUT, trust_env=False)
        self.counts: Counter[tuple[str, str]] = Counter()

    def counted(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {"accepted": {}, "refused": {}, "dropped": {}, "left": {}}
        for (became, event), number in self.counts.items():
            found[became][event] = number
        return found

    def of(self, session: str, fence: int) -> SessionEvents:
        return SessionEvents(self, session, fence)

    async def post(self, body: bytes, fence: int) -> int:
        """The status; 0: none came."""
        headers = [*self._headers, (b"X-Sluice-Fence", b"%d" % fence), *sign(self._signature, body, time.time())]
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._http.post(PATH, content=body, headers=headers)
        except (TimeoutError, httpx2.HTTPError):
            return 0
        return answer.status_code

    async def close(self) -> None:
        await self._http.aclose()


class SessionEvents:
    """What one session tells."""

    def __init__(self, outgoing: Outgoing, session: str, fence: int) -> None:
        self.fence = fence
        """Under which it runs now."""
        self.workspace: int | None = None
        self.on_accepted: Callable[[], None] = lambda: None
        self._outgoing = outgoing
        self._session = session
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._arrived, self._empty = asyncio.Event(), asyncio.Event()
        self._empty.set()
        self._sending = asyncio.create_task(self._send())

    def emit(self, event: str, data: Mapping[str, Any]) -> None:
        content = {"workspace_id": self.workspace, "session_id": self._session, **data}
        body = orjson.dumps({"event": event, "data": content})
        while self._waiting and self._bytes + len(body) > MAX_BYTES:
            self._drop()
        self._waiting.append((event, body))
        self._bytes += len(body)
        self._empty.clear()
        self._arrived.set()

    def _drop(self) -> None:
        """What is stale soonest, else the oldest."""
        found = next((one for one in self._waiting if one[0] in _STALE), self._waiting[0])
        self._waiting.remove(found)
        self._bytes -= len(found[1])
        self._outgoing.counts["dropped", found[0]] += 1
        self._outgoing.dropped.add(self._session, found[0])
        LOG.error("webhook.dropped", session=self._session, event=found[0], waiting=len(self._waiting))

    async def end(self, within: float) -> None:
        """What waits has so many seconds; then nothing is sent any more. What is left is not behind the mark of
        `browser/passed_on.py`, so whoever has the session next finds its messages in the profile, and tells them."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._empty.wait()
        self._sending.cancel()
        await asyncio.wait([self._sending])
        if self._waiting:
            for event, _ in self._waiting:
                self._outgoing.counts["left", event] += 1
            LOG.error("webhook.left", session=self._session, waiting=len(self._waiting))

    async def _send(self) -> None:
        while True:
            self._arrived.clear()
            status = 0
            while self._waiting:
                event, body = self._waiting[0]
                status = await self._until_answered(body)
                self._outgoing.counts["accepted" if status < 300 else "refused", event] += 1
                if status >= 300:
                    LOG.warning("webhook.refused", session=self._session, event=event, status=status)
                with suppress(ValueError):  # it was dropped meanwhile
                    self._waiting.remove((event, body))
                    self._bytes -= len(body)
            self._empty.set()
            if 200 <= status < 300:
                self.on_accepted()
            await self._arrived.wait()

    async def _until_answered(self, body: bytes) -> int:
        pause = _FIRST_PAUSE
        while True:
            status = await self._outgoing.post(body, self.fence)
            if 200 <= status < 300 or (400 <= status < 500 and status not in _AGAIN):
                return status
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)
