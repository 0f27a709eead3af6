"""What chats tell: messages, receipts and who is typing, one after the other, each message once.

the page ──▶ a queue ──▶ its media from the page, its id from the store ──▶ an event of the contract
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from sessions.worker import events
from sessions.worker.browser.errors import BrowserError
from sessions.worker.browser.page import WebPage
from sessions.worker.dropped import Dropped
from sessions.worker.ids import SentIds
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.browser")
TELLS = frozenset({"message", "acknowledged", "presence"})
"""What `bridge.js` tells that belongs here."""
_WAITING, _RECEIPTS = 10_000, 1000
_MEDIA_WITHIN = 60.0
_KNOWN = 2000
"""Messages that are known to have been passed on."""
_MISSED = 1000
"""Messages that are looked at after a start, at most."""
_OVERLAP = 120.0
"""Seconds that are looked at once more."""


class Incoming:
    """Of one session; `page`: the one that it has now."""

    def __init__(
        self,
        session: str,
        ids: SentIds,
        page: Callable[[], WebPage | None],
        say: Callable[[str, Mapping[str, Any]], None],
        dropped: Dropped,
    ) -> None:
        self._dropped = dropped
        self._session = session
        self._ids = ids
        self._page = page
        self._say = say
        self._passed_on: dict[str, None] = {}
        self._held: list[tuple[str, Mapping[str, Any]]] | None = []
        """What the page tells before all that came earlier was looked at; None: it was."""
        self._waiting: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue(_WAITING)
        self._passing = False
        self._passing_on = asyncio.create_task(self._pass_on())

    def take(self, kind: str, data: Mapping[str, Any]) -> None:
        if self._held is None:
            self._queue(kind, data)
        elif len(self._held) < _WAITING:  # what is left out here is found by `catch_up`
            self._held.append((kind, data))

    def _queue(self, kind: str, data: Mapping[str, Any]) -> None:
        try:
            self._waiting.put_nowait((kind, data))
        except asyncio.QueueFull:
            self._dropped.add(self._session, kind)
            LOG.error("session.overflow", session=self._session, event=kind, waiting=self._waiting.qsize())

    @property
    def idle(self) -> bool:
        """All that its page has told was passed on: nothing waits, and nobody has to look for what was dropped."""
        waits = self._held is not None or self._passing or not self._waiting.empty()
        return not waits and not self._dropped.of(self._session)

    def hold(self) -> None:
        """Its page is gone: what the next one tells comes after `catch_up`, so that messages keep their order."""
        if self._held is None:
            self._held = []

    async def catch_up(self, page: WebPage, since: float | None) -> None:
        """What came between its start and our listening, and what a worker that was killed had not passed on. Some of
        it may have been; the relay knows a message by its id. `since` None: nobody ran it before. Raises
        BrowserError."""
        if self._dropped.of(self._session):
            self._passed_on.clear()  # it may be among them
        for found in await page.ask("since", since - _OVERLAP, _MISSED) if since is not None else ():
            if isinstance(found, dict):
                self._again(found)
        self._dropped.found(self._session)
        held, self._held = self._held or [], None
        for kind, data in held:
            self._queue(kind, data)

    def _again(self, data: Mapping[str, Any]) -> None:
        """As it was told the first time, so that the relay knows it; how far one of ours came since comes after it."""
        ack = data.get("ack")
        self._queue("message", {**data, "ack": 0})
        if data.get("from_me") is True and ack:
            self._queue("acknowledged", {"ack": ack, "ids": [data.get("id")]})

    def end(self) -> None:
        self._passing_on.cancel()

    async def _pass_on(self) -> None:
        while True:
            kind, data = await self._waiting.get()
            self._passing = True
            try:
                await self._pass(kind, data)
            except Exception as error:  # noqa: BLE001 (what a page tells of one message must not end all others)
                self._dropped.add(self._session, kind)
                LOG.error("session.not_passed_on", session=self._session, event=kind, exception=error)
            self._passing = False

    async def _pass(self, kind: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "message":
                await self._message(data)
            case "acknowledged":
                await self._acknowledged(data)
            case "presence":
                for found in events.presence(data):
                    self._say(*found)

    async def _acknowledged(self, data: Mapping[str, Any]) -> None:
        ack, ids = data.get("ack"), data.get("ids")
        if isinstance(ack, int) and isinstance(ids, list):
            for one in ids[:_RECEIPTS]:
                found = events.acknowledged(await self._called(one), ack) if isinstance(one, str) else None
                if found is not None:
                    self._say(*found)

    async def _called(self, message: str) -> str:
        """As whoever sent it knows it."""
        try:
            return await self._ids.given(self._session, message) or message
        except (StoreAway, StoreRefused):
            return message

    async def _message(self, data: Mapping[str, Any]) -> None:
        known = str(data.get("id"))
        if known in self._passed_on:
            return
        media = await self._media(data) if events.has_media(data) else None
        called = {**data, "id": await self._called(known)} if data.get("from_me") is True else data
        found = events.message(called, media)
        if found is None:
            return
        self._passed_on[known] = None
        if len(self._passed_on) > _KNOWN:
            del self._passed_on[next(iter(self._passed_on))]
        self._say(*found)

    async def _media(self, data: Mapping[str, Any]) -> Mapping[str, str] | None:
        """None: it is too large, or not there any more; the message goes without."""
        page = self._page()
        if page is None:
            return None
        try:
            content = await page.ask("media", data.get("id"), within=_MEDIA_WITHIN)
        except BrowserError as error:
            LOG.warning("media.missing", session=self._session, id=str(data.get("id")), reason=str(error))
            return None
        if not isinstance(content, str):
            return None
        mimetype, filename = (str(data.get(name) or "") for name in ("mimetype", "filename"))
        return {"data": content, "mimetype": mimetype, "filename": filename}
