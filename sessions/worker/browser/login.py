"""One session in a browser of its own: what is asked of it, and what its page shows, as states and events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sessions.worker import events
from sessions.worker.browser.attendant import Attendant, Equipment
from sessions.worker.browser.errors import BrowserError
from sessions.worker.browser.facts import (
    DOUBTED,
    NO_LOGIN_LEFT,
    PASSKEY,
    Status,
    ended_by,
    facts_of,
    is_outdated,
    status_of,
)
from sessions.worker.browser.incoming import TELLS, Incoming
from sessions.worker.browser.keeping import Keeping
from sessions.worker.browser.newer_page import NewerPage
from sessions.worker.browser.page import WebPage
from sessions.worker.browser.pairing import pairing_code
from sessions.worker.browser.sends import Sends
from sessions.worker.codes import data_url
from sessions.worker.login import Media, NotOurs, NotYet, Sent, not_connected
from sluice.observe.log import Log

LOG = Log("sessions.browser")
Emit = Callable[[str, Mapping[str, Any]], None]
_LOGS_OUT_WITHIN = 10.0
_LOOKS_WITHIN = 3.0
"""Seconds: a worker that ends has little time for each of its sessions."""
_CODES = 60
"""So many codes in a row are told of, each good for 20 s; then somebody has to ask for one (`regenerate-qr`)."""


class BrowserLogin:
    """`may_act`: whether its lease stands at this very moment; without it nothing is told and nothing is sent."""

    def __init__(
        self,
        session: str,
        fence: int,
        profile: Path,
        equipment: Equipment,
        keeping: Keeping,
        emit: Emit,
        may_act: Callable[[], bool],
    ) -> None:
        self.session, self.fence = session, fence
        self.state = "starting"
        self.phone: str | None = None
        self.reason: str | None = None
        self.workspace = events.workspace_of(session)
        self.connected_at: float | None = None
        self.last_activity = time.time()
        self.metadata: dict[str, Any] = {}
        self.code: str | None = None
        self.has_login = False
        self._keeping = keeping
        self._emit, self.may_act = emit, may_act
        self._codes, self._newer_page = 0, NewerPage(lambda: self.restart(anew=False))
        self._scanned = self._ending = False
        self._was_connected = self._doubted = self._shows_code = False
        """Since its browser was opened."""
        self._caught_up, self._shows_chats = True, False
        self._sends = Sends(session, equipment.ids, may_act)
        self._incoming = Incoming(session, equipment.ids, lambda: self._page, self._say, equipment.dropped)
        self._attendant = Attendant(self, profile, equipment, keeping)

    @property
    def is_logged_in(self) -> bool:
        """Somebody has logged in, be it a moment ago."""
        return self.has_login or self.state == "authenticated"

    @property
    def is_empty(self) -> bool:
        """Its page has said that nobody has logged in. One that does not answer, or has not begun to, says nothing."""
        return self._shows_code or self.state == "logged_out"

    @property
    def pid(self) -> int:
        """Of its browser; 0: none runs."""
        return self._attendant.pid

    @property
    def _page(self) -> WebPage | None:
        return self._attendant.page

    # --- asked from outside

    async def send(self, chat: str, content: str | Media, message_id: str | None = None) -> Sent:
        if not self.may_act():
            raise NotOurs("another worker has the session")
        if self.state != "connected":
            raise not_connected(self.state)
        if self._page is None:
            raise NotYet("the session is being opened")
        return await self._sends.send(self._page, chat, content, message_id)

    async def pairing_code(self, phone: str) -> str:
        return await pairing_code(self._page, self.state, phone)

    def was_accepted(self) -> None:
        if self.has_login and self._incoming.idle and self.may_act():
            self._keeping.passed_on()

    def restart(self, *, anew: bool) -> None:
        self._codes = 0
        self._attendant.restart(anew=anew)

    async def end(self, *, log_out: bool = False) -> None:
        self._ending = True
        if log_out and self._page is not None and self.has_login:
            await _log_out(self._page, self.session)
        if self._page is not None and not self.is_logged_in and self.state != "logged_out":
            self._shows_code = False  # it may have been scanned a moment ago, and its page not told it yet
            with suppress(BrowserError):
                self.see(await self._page.ask("facts", within=_LOOKS_WITHIN))
        await self._attendant.end()
        self._incoming.end()
        if log_out:
            await self._keeping.forget()

    # --- what the page tells

    def tell(self, event: str, data: Mapping[str, Any]) -> None:
        self.last_activity = time.time()
        if event in TELLS:
            self._incoming.take(event, data)
        elif event == "loaded":  # also anew, by itself: nobody has listened meanwhile
            self._newer_page.loaded()
            self._incoming.hold()
            self._caught_up = self._shows_chats = self._shows_code = False
        elif event == "changed":
            self.see(data)
        elif event == "code":
            self._show(data.get("code"))
        elif event == "logged_out":
            self._logged_out(ended_by(str(data.get("reason"))))
        elif event == "passkey":
            self.enter(Status("failed", PASSKEY))

    def see(self, data: Mapping[str, Any]) -> None:
        facts = facts_of(data)
        status = status_of(facts)
        self._shows_chats = status is not None and status.state == "connected"
        self._shows_code = status is not None and status.state == "qr_scanning"
        if status is None or (is_outdated(facts) and self._newer_page.comes()):
            return
        if status.state == "qr_scanning" and self._lost_login():
            return
        if status.state == "connected":
            self.phone = facts.phone
        self.enter(status)
        if self._shows_chats and not self._caught_up:
            self._attendant.look()

    async def catch_up(self, page: WebPage) -> None:
        """Once it is connected: what came while nobody listened."""
        if self._shows_chats and not self._caught_up:
            await self._incoming.catch_up(page, self._keeping.passed_on_until)
            self._caught_up = True
            if self._keeping.passed_on_until is None:  # nothing came before; what comes from now on is missed by nobody
                self.was_accepted()

    def forgotten(self) -> None:
        self.has_login = False

    def opened(self) -> None:
        self._shows_code = False

    def closed(self) -> None:
        self.code, self._was_connected, self._doubted = None, False, False
        self._incoming.hold()

    def _show(self, code: object) -> None:
        self.code = code if isinstance(code, str) else None
        if self.code is None or self.state == "connected" or self._lost_login():
            return
        self._codes += 1
        if self._codes <= _CODES:
            self._say(*events.code(data_url(self.code), self._codes, again=self._codes > 1))

    def _lost_login(self) -> bool:
        """Its page shows a code: whether it had a login. From one that was connected its phone has taken it; one that
        was opened just now may be damaged, and is restored once more before anybody is told."""
        if not self.has_login and not self._keeping.had_login:
            self._keeping.is_new()
            return False
        if self._was_connected:
            self._logged_out(ended_by("unknown_companion"))
        elif self.state != "logged_out" and not self._ending and not self._doubted:
            if not self._keeping.doubt():
                self._logged_out(NO_LOGIN_LEFT)
                return True
            self._doubted, self.has_login, self.code = True, False, None
            self.enter(Status("starting", DOUBTED))
            self.restart(anew=False)
        return True

    def _logged_out(self, reason: str) -> None:
        if self.state == "logged_out" or self._ending:
            return
        self.has_login = False
        self.enter(Status("logged_out", reason))
        self.restart(anew=True)

    def enter(self, status: Status) -> None:
        before, self.state, self.reason = self.state, status.state, status.reason
        if status.state == "qr_scanning":
            self._scanned = True
        if before == status.state:
            return
        LOG.info("session.state", session=self.session, state=status.state, before=before, reason=status.reason)
        match status.state:
            case "authenticated":
                self._say("session_authenticated", {"status": "authenticated"})
            case "connected":
                self._connected()
            case "disconnected" | "logged_out":
                self._say("session_disconnected", {"reason": status.reason or status.state})
            case "failed":
                self._say("session_error", {"error": status.state, "message": status.reason})

    def _connected(self) -> None:
        self.connected_at, self.code, self._codes = time.time(), None, 0
        self._keeping.connected(fresh=self._scanned)
        self._scanned, self.has_login, self._caught_up, self._was_connected = False, True, False, True
        self._attendant.look()
        ready = {"phone_number": self.phone, "status": "connected", "platform": "web", "extraction_method": "wa-js"}
        self._say("session_ready", ready)

    def _say(self, event: str, data: Mapping[str, Any]) -> None:
        if self.may_act():
            self._emit(event, data)


async def _log_out(page: WebPage, session: str) -> None:
    try:
        await page.ask("logout", within=_LOGS_OUT_WITHIN)
    except BrowserError as error:
        LOG.warning("session.not_logged_out", session=session, reason=str(error))
