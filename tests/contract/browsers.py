"""The sessions of one contract worker, each in a browser on its profile.

    created ──▶ qr_scanning ──scan──▶ authenticated ──▶ connected ──thrown out──▶ disconnected
                     └── the profile has a login ──▲                    (stays there, says `session_reconnected`)

A create of a session that runs replaces its entry: the first browser goes on, unseen, and still sends webhooks.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.contract.whatsapp import Watched
from tests.pictures import grey

Emit = Callable[[str, dict[str, Any]], None]
"""Sends a webhook: event and data."""
_SIDE = 66
"""Pixels of a code's picture, which makes 6 kB of text."""


class LaunchFailed(Exception):
    """The browser did not start."""


@dataclass(slots=True)
class Session:
    """What is listed."""

    id: str
    workspace: Any
    account: Any
    browser: Browser
    status: str = "qr_scanning"
    phone: str | None = None
    connected_at: str | None = None
    last_activity: str | None = None
    qr_code: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Timing:
    """Seconds. `launch`: from, to; of a create until it is answered."""

    launch: tuple[float, float] = (7.0, 9.0)
    ready: tuple[float, float] = (2.5, 10.0)
    close: tuple[float, float] = (1.0, 2.0)
    qr: float = 20.0
    reconnect: float = 5.0

    def scaled(self, scale: float) -> Timing:
        def both(pair: tuple[float, float]) -> tuple[float, float]:
            return pair[0] * scale, pair[1] * scale

        return Timing(
            both(self.launch), both(self.ready), both(self.close), max(1.0, self.qr * scale), self.reconnect * scale
        )


class Browser:
    """One Chromium on one profile."""

    def __init__(self, identity: str, session: str, workspace: Any, profile: Path) -> None:
        self.id = identity
        self.session = session
        self.workspace = workspace
        self.profile = profile
        self.scanned: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.life: asyncio.Task[None] | None = None

    @property
    def login(self) -> Path:
        return self.profile / "login.json"


class Browsers:
    """Starts and closes them."""

    def __init__(self, storage: Path, timing: Timing, watched: Watched, emit: Emit) -> None:
        self.sessions: dict[str, Session] = {}
        self.open: dict[str, Browser] = {}
        """All that are open, those without an entry too, by id."""
        self.fails = 0
        """So many of the next launches fail."""
        self._storage = storage
        self._timing = timing
        self._watched = watched
        self._emit = emit
        self._later: set[asyncio.Task[None]] = set()

    async def create(self, session: str, workspace: Any, account: Any) -> Session:
        """Whether it runs or not. Raises LaunchFailed; then it is not listed."""
        profile = self._storage / f"workspace_{workspace}" / f"session-{session}"
        profile.mkdir(parents=True, exist_ok=True)
        browser = Browser(secrets.token_hex(6), session, workspace, profile)
        entry = self.sessions[session] = Session(session, workspace, account, browser)
        self.open[browser.id] = browser
        self._watched.say("open", browser=browser.id, session=session, profile=str(profile))
        await asyncio.sleep(random.uniform(*self._timing.launch))
        if self.fails:
            self.fails -= 1
            self._closed(browser)
            self.sessions.pop(session, None)
            raise LaunchFailed("Failed to launch the browser process!")
        browser.life = self._start(self._live(browser))
        return entry

    async def delete(self, session: str) -> bool:
        """Closes its browser; the profile stays. False when it does not run."""
        entry = self.sessions.pop(session, None)
        if entry is None:
            return False
        await asyncio.sleep(random.uniform(*self._timing.close))
        self._closed(entry.browser)
        return True

    async def close_one_by_one(self) -> None:
        for session in list(self.sessions):
            await self.delete(session)
        for browser in list(self.open.values()):
            self._closed(browser)

    def out(self, identity: str, reason: str) -> None:
        """WhatsApp has thrown it out."""
        browser = self.open.get(identity)
        if browser is None:
            return
        if browser.life is not None:
            browser.life.cancel()
        if reason == "LOGOUT":
            browser.login.unlink(missing_ok=True)
        self._mark(browser, status="disconnected")
        self._say(browser, "session_disconnected", reason=reason)
        if reason != "LOGOUT":
            self._start(self._reconnect(browser))

    def scan(self, identity: str, phone: str) -> None:
        browser = self.open.get(identity)
        if browser is not None and not browser.scanned.done():
            browser.scanned.set_result(phone)

    async def _live(self, browser: Browser) -> None:
        if not browser.login.exists():
            phone = await self._until_scanned(browser)
            browser.login.write_text(json.dumps({"device": secrets.token_hex(8), "phone": phone}))
        login = json.loads(browser.login.read_text())
        self._watched.say("login", browser=browser.id, device=login["device"], phone=login["phone"])
        self._mark(browser, status="authenticated", qr_code=None)
        self._say(browser, "session_authenticated", status="authenticated")
        await asyncio.sleep(random.uniform(*self._timing.ready))
        self._mark(browser, status="connected", phone=login["phone"], connected_at=now(), last_activity=now())
        about = {"platform": "android", "extraction_method": "info.wid"}
        self._say(browser, "session_ready", phone_number=login["phone"], status="connected", **about)

    async def _until_scanned(self, browser: Browser) -> str:
        count = 0
        while not browser.scanned.done():
            count += 1
            code = grey(_SIDE, random.Random(count).randbytes(_SIDE * _SIDE))
            self._mark(browser, status="qr_scanning", qr_code=code)
            self._say(
                browser, "qr_code_generated", qr_code=code, expires_in=60, qr_count=count, is_regeneration=count > 1
            )
            await asyncio.wait([browser.scanned], timeout=self._timing.qr)
        return browser.scanned.result()

    async def _reconnect(self, browser: Browser) -> None:
        """It finds its old client connected, says so, and changes nothing."""
        await asyncio.sleep(self._timing.reconnect)
        self._say(browser, "session_reconnected", status="connected", timestamp=now())

    def _closed(self, browser: Browser) -> None:
        if self.open.pop(browser.id, None) is None:
            return
        if browser.life is not None:
            browser.life.cancel()
        self._watched.say("close", browser=browser.id)

    def _mark(self, browser: Browser, **what: Any) -> None:
        entry = self.sessions.get(browser.session)
        if entry is not None and entry.browser is browser:
            for name, value in what.items():
                setattr(entry, name, value)

    def _say(self, browser: Browser, event: str, **data: Any) -> None:
        self._emit(event, {"workspace_id": browser.workspace, "session_id": browser.session, **data})

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)
        return task


def now() -> str:
    """As JavaScript writes a date."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
