"""One session of a demo worker: its life, and its traffic.

    qr_scanning ── session_authenticated ──> authenticated ── session_ready ──> connected (its traffic flows)

40 ms long up to the end of the arrow.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from sessions.worker.login import Media, SendRefused, Sent, not_connected
from sluice.demo import traffic
from sluice.observe.log import Log

log = Log("demo.worker")
Emit = Callable[[str, Mapping[str, Any]], None]
OnSent = Callable[[str, str, str], object]
_SENDS_KEPT = 100
_STEP = 0.02


class DemoLogin:
    """`minute`: seconds that a minute of its traffic lasts; None: it has no traffic."""

    code: str | None = None

    def __init__(
        self,
        session: str,
        fence: int,
        emit: Emit,
        may_act: Callable[[], bool],
        minute: float | None,
        on_sent: OnSent,
    ) -> None:
        self.session = session
        self.fence = fence
        self.state = "qr_scanning"
        self.phone: str | None = None
        self.reason: str | None = None
        self.connected_at: float | None = None
        self.last_activity = time.time()
        self.workspace: int | None = traffic.workspace(session)
        self.metadata: dict[str, Any] = {}
        self._emit = emit
        self._may_act = may_act
        self._minute = minute
        self._on_sent = on_sent
        self._sent: OrderedDict[str, Sent] = OrderedDict()
        """Of the newest sends that have an id, by that id; who repeats one gets it again."""
        self._ending = False
        self._living = asyncio.create_task(self._watched(qr=False))

    async def send(self, chat: str, content: str | Media, message_id: str | None = None) -> Sent:
        if message_id is not None and message_id in self._sent:
            return self._sent[message_id]
        if self.state != "connected":
            raise not_connected(self.state)
        text = content if isinstance(content, str) else content.caption
        sent = Sent(message_id or f"true_{chat}_{secrets.token_hex(10).upper()}", int(time.time()))
        about = {"id": sent.message_id, "to": chat, "body": text, "timestamp": sent.timestamp}
        self._tell("message_sent", {"message": {**about, "from_me": True, "type": "chat"}})
        receipt = {"message_id": sent.message_id, "status": "delivered", "ack_level": 3, "timestamp": sent.timestamp}
        self._tell("message_status_updated", receipt)
        if message_id is not None:
            self._sent[message_id] = sent
            if len(self._sent) > _SENDS_KEPT:
                self._sent.popitem(last=False)
        self._on_sent(self.session, text, sent.message_id)
        return sent

    async def pairing_code(self, phone: str) -> str:
        raise SendRefused("the demo's sessions are paired by themselves")

    def was_accepted(self) -> None:
        """It keeps nothing that would have to know."""

    def restart(self, *, anew: bool) -> None:
        """Goes through the login once more, with a new QR code or with the one it has."""
        if not self._ending:
            self._living.cancel()
            self._living = asyncio.create_task(self._watched(qr=anew))

    async def end(self, *, log_out: bool = False) -> None:
        self._ending = True
        self._living.cancel()
        await asyncio.wait([self._living])

    def _tell(self, event: str, data: Mapping[str, Any]) -> None:
        if not self._ending and self._may_act():
            self.last_activity = time.time()
            self._emit(event, data)

    async def _watched(self, *, qr: bool) -> None:
        try:
            await self._live(qr=qr)
        except Exception as error:  # noqa: BLE001 - our own mistake: this session shows it, the others go on
            self.state, self.reason = "failed", f"{type(error).__name__}: {error}"[:200]
            log.error("session.failed", session=self.session, exception=error)

    async def _live(self, *, qr: bool) -> None:
        self.state = "qr_scanning"
        if qr:
            self._tell("qr_code_generated", _QR)
        await asyncio.sleep(_STEP)
        self.state = "authenticated"
        self._tell("session_authenticated", {"status": "authenticated"})
        await asyncio.sleep(_STEP)
        self.state = "connected"
        self.phone = traffic.phone(self.session)
        self.connected_at = time.time()
        ready = {"phone_number": self.phone, "status": "connected", "platform": "demo", "extraction_method": "demo"}
        self._tell("session_ready", ready)
        if self._minute is not None:
            await self._follow(self._minute)

    async def _follow(self, minute: float) -> None:
        """Emits each event when it is due by the wall clock, so that the next worker goes on where this one stops."""
        started = self._position(minute)
        number = int(started)
        while True:
            for timed in traffic.minute(self.session, number):
                due = number + timed.at
                if due > started:
                    await asyncio.sleep(max(0.0, (due - self._position(minute)) * minute))
                    self._tell(timed.event["event"], timed.event["data"])
            number = max(number + 1, int(self._position(minute)))

    def _position(self, minute: float) -> float:
        return time.time() / minute + traffic.phase(self.session)


_QR = {
    # A picture of one white pixel: there is nothing to scan.
    "qr_code": "data:image/gif;base64,R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw==",
    "expires_in": 60,
    "qr_count": 1,
    "is_regeneration": True,
}
