"""A message is sent once, however often it is asked for: its id is made of the caller's and noted before."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any

from sessions.worker.browser.errors import BrowserGone, PageRefused
from sessions.worker.browser.page import WebPage
from sessions.worker.ids import SentIds, derived
from sessions.worker.login import Media, NotOurs, NotYet, SendRefused, SendUnknown, Sent
from sluice.store.client import StoreAway, StoreRefused

_UPLOADS_WITHIN = 40.0
"""Seconds; whoever asks waits for 45, as the contract has it."""
_PENDING = frozenset({"ERROR_NETWORK", "ERROR_EXPIRED"})
"""The page goes on trying."""


class Sends:
    """Of one session, one after the other. `may_act`: whether its lease stands at this very moment."""

    def __init__(self, session: str, ids: SentIds, may_act: Callable[[], bool]) -> None:
        self._session = session
        self._ids = ids
        self._may_act = may_act
        self._one_at_a_time = asyncio.Lock()

    async def send(self, page: WebPage, chat: str, content: str | Media, message_id: str | None) -> Sent:
        """Raises as `Login.send` does."""
        async with self._one_at_a_time:
            try:
                where = await page.ask("addressed", chat, derived(message_id) if message_id else None)
                chat, made = where["chat"], where["id"]
                known = await page.ask("acknowledged", made) if message_id else None
                if known is None:
                    await self._note(made, message_id)
                    await _hand_over(page, chat, content, made)
                elif known < 0:
                    raise SendRefused("WhatsApp has not taken this message before: send it under another id")
            except PageRefused as refused:
                raise SendRefused(str(refused)) from None
            except BrowserGone as gone:
                raise NotYet(str(gone)) from None
        return Sent(message_id or made, int(time.time()))

    async def _note(self, made: str, message_id: str | None) -> None:
        """Before it is sent; nothing is when the lease ended meanwhile."""
        if message_id is not None:
            try:
                await self._ids.note(self._session, made, message_id)
            except (StoreAway, StoreRefused) as error:
                raise NotYet(f"the store does not take its id: {error}") from None
        if not self._may_act():
            raise NotOurs("another worker has the session")


async def _hand_over(page: WebPage, chat: str, content: str | Media, made: str) -> None:
    try:
        if isinstance(content, str):
            result = await page.ask("sendText", chat, content, made)
        else:
            file = _data_url(content), _file_options(content, made)
            result = await page.ask("sendFile", chat, *file, within=_UPLOADS_WITHIN)
    except BrowserGone as gone:
        raise SendUnknown(str(gone)) from None
    if result in _PENDING:
        raise SendUnknown(f"WhatsApp has not answered yet ({result})")
    if result not in (None, "OK"):
        raise SendRefused(f"WhatsApp did not take the message ({result})")


def _data_url(media: Media) -> str:
    return f"data:{media.mimetype};base64,{base64.b64encode(media.content).decode('ascii')}"


def _file_options(media: Media, message_id: str) -> dict[str, Any]:
    return {
        "type": "auto-detect",
        "filename": media.filename,
        "caption": media.caption or None,
        "mimetype": media.mimetype,
        "messageId": message_id,
    }
