"""Keeps a browser open on a session's profile, and opens another one when it fails.

restore ─▶ open ─▶ attend ─▶ close ─▶ save
   ▲                 │ it crashed, hangs, or is to start anew
   └── after a pause ┘ which doubles up to five minutes; what can never work is `failed`, with the cure
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sessions.profiles.browsers import Browser
from sessions.worker.browser.chromium import ENDED, Chromium
from sessions.worker.browser.errors import BrowserError, BrowserGone, BrowserHangs, NotInstalled, NotNow
from sessions.worker.browser.facts import Status
from sessions.worker.browser.guarded import Guard
from sessions.worker.browser.keeping import Keeping, NotOurs
from sessions.worker.browser.page import WebPage
from sessions.worker.browser.playwrights import Playwrights
from sessions.worker.browser.starts import Starts
from sessions.worker.dropped import Dropped
from sessions.worker.ids import SentIds
from sluice.observe.log import Log
from sluice.process.descendants import descendants
from sluice.process.memory import private_memory

LOG = Log("sessions.browser")
_LOOK_EVERY, _ANSWERS_WITHIN, _MISSES = 15.0, 10.0, 3
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 300.0
_FAILS = 3
"""Starts in a row that fail until it is said to have failed; it goes on trying."""
_MAX_MEMORY, _GROWS_AFTER = 3 * 2**29, 600.0
"""Bytes that a browser may have to itself, and for how many seconds it may have more after its start."""
_STABLE = 120.0
"""Seconds after which a start counts as one that went well."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What all sessions of a worker share."""

    playwrights: Playwrights
    executable: str
    wa_js: str
    browser: Browser
    ids: SentIds
    guard: Guard
    dropped: Dropped
    starts: Starts


class Attended(Protocol):
    """The session."""

    session: str

    @property
    def is_logged_in(self) -> bool: ...

    @property
    def is_empty(self) -> bool:
        """It is known that nobody has logged in."""
        ...

    def tell(self, event: str, data: Mapping[str, Any]) -> None:
        """What its page tells by itself."""
        ...

    def see(self, data: Mapping[str, Any]) -> None:
        """What its page answers when it is looked at."""
        ...

    def enter(self, status: Status) -> None: ...

    def forgotten(self) -> None:
        """It has no login any more."""
        ...

    def opened(self) -> None:
        """It has a page from now on."""
        ...

    def closed(self) -> None:
        """It has no page now."""
        ...

    async def catch_up(self, page: WebPage) -> None: ...

    def may_act(self) -> bool:
        """Whether its lease stands at this very moment."""
        ...


class Attendant:
    """Begins at once, and goes on until `end`."""

    def __init__(self, attended: Attended, profile: Path, equipment: Equipment, keeping: Keeping) -> None:
        self.page: WebPage | None = None
        """The one that can be asked now."""
        self._attended = attended
        self._profile = profile
        self._equipment = equipment
        self._keeping = keeping
        self._browser: Chromium | None = None
        self._anew = self._ending = self._opening = self._starting = False
        self._unproven = False
        """Nobody knows whether the browser that ran last has left a login behind: what runs next here may tell."""
        self._wake, self._look = asyncio.Event(), asyncio.Event()
        self._living = asyncio.create_task(self._live())

    @property
    def pid(self) -> int:
        """Of its browser; 0: none runs."""
        return self._browser.pid if self._browser is not None else 0

    def restart(self, *, anew: bool) -> None:
        """`anew`: without the login that it has."""
        self._anew = self._anew or anew
        self._wake.set()
        if self._browser is not None:
            self._browser.ended.set()

    def look(self) -> None:
        """Now, not only when it is time to."""
        self._look.set()

    async def end(self) -> None:
        """Its browser is closed, and its login saved, when this returns."""
        self._ending = True
        self.restart(anew=False)
        if self._opening:  # which may take minutes
            self._living.cancel()
        await asyncio.wait([self._living])
        if self._unproven:
            await self._keeping.save(closed=True, proven=False)

    async def _live(self) -> None:
        pause, fails = _FIRST_PAUSE, 0
        while not self._ending:
            self._wake.clear()
            began = time.monotonic()
            try:
                await self._run()
                pause, fails = _FIRST_PAUSE, 0
            except (NotInstalled, NotOurs) as error:
                self._attended.enter(Status("failed", str(error)))
                pause = _MAX_PAUSE
            except BrowserError as error:
                LOG.warning("browser.ended", session=self._attended.session, reason=str(error), again_in=pause)
                fails = 1 if time.monotonic() - began > _STABLE else fails + 1
                passes = isinstance(error, BrowserGone | NotNow) and fails < _FAILS
                self._attended.enter(Status("starting" if passes else "failed", str(error)))
            except Exception as error:  # noqa: BLE001 (one session's failure must not end the others)
                LOG.error("session.failed", session=self._attended.session, exception=error)
                self._attended.enter(Status("failed", f"{type(error).__name__}: {error}"[:200]))
            if time.monotonic() - began > _STABLE:
                pause = _FIRST_PAUSE
            if not self._ending:
                await self._rest(pause)
                pause = min(2 * pause, _MAX_PAUSE)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        if not self._ending:
            self._attended.enter(Status("starting"))

    async def _run(self) -> None:
        parts = self._equipment
        self._opening = True
        async with self._place():
            self._check_lease()
            if self._anew:
                self._anew = False
                await self._keeping.forget(goes_on=True)
                self._attended.forgotten()
            await self._keeping.prepare(self._check_lease)
            playwright = await parts.playwrights.get()
            await self._use(await Chromium.open(playwright, parts.executable, self._profile, parts.browser))

    async def _use(self, browser: Chromium) -> None:
        self._browser = browser
        self._equipment.guard.opened(browser.pid)
        self._attended.opened()
        try:
            page = self.page = WebPage(browser, self._attended.tell)
            self._check_lease()
            await page.open(self._equipment.wa_js)
            self._has_opened()
            await self._attend(browser, page)
        except BrowserHangs:
            browser.kill()
            raise
        finally:
            self._has_opened()
            self.page = None
            self._attended.closed()
            await browser.close()
            self._equipment.guard.closed(browser.pid)
            self._browser = None
            self._unproven = not self._attended.is_logged_in and not self._attended.is_empty
            if self._attended.is_logged_in:
                await self._keeping.save(closed=True)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """A place among those that start, until it has opened, or has failed to."""
        await self._equipment.starts.begin()
        self._starting = True
        try:
            yield
        finally:
            self._has_opened()

    def _has_opened(self) -> None:
        self._opening = False
        if self._starting:
            self._starting = False
            self._equipment.starts.end()

    def _check_lease(self) -> None:
        if not self._attended.may_act():
            raise NotNow("its lease is over")

    async def _attend(self, browser: Chromium, page: WebPage) -> None:
        """Until it is to end, or start once more. Raises BrowserGone."""
        misses, began = 0, time.monotonic()
        while not self._ending and not self._wake.is_set():
            try:
                self._attended.see(await page.ask("facts", within=_ANSWERS_WITHIN))
                misses = 0
                await self._attended.catch_up(page)
            except BrowserHangs:
                misses += 1
                if misses == _MISSES:
                    raise
            await self._keeping.save_when_due()
            if time.monotonic() - began > _GROWS_AFTER:
                _check_memory(browser)
            await self._until_next_look(browser)
            if browser.ended.is_set() and not self._ending and not self._wake.is_set():
                raise BrowserGone(ENDED)

    async def _until_next_look(self, browser: Chromium) -> None:
        waiting = [asyncio.ensure_future(event.wait()) for event in (browser.ended, self._look)]
        await asyncio.wait(waiting, timeout=_LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        self._look.clear()


def _check_memory(browser: Chromium) -> None:
    """Raises BrowserGone: what a page has once taken, it gives back only when it is opened again."""
    taken = private_memory((browser.pid, *descendants(browser.pid)))
    if taken > _MAX_MEMORY:
        raise BrowserGone(f"its browser had grown to {taken >> 20:,} MiB, of {_MAX_MEMORY >> 20:,} that it may have")
