"""One Chromium on one profile, driven by Playwright. Every call of it is bounded in time.

open ──▶ runs ──▶ close      it writes all it has: a login is whole afterwards
           ├────▶ ended      it crashed, or was killed
           └────▶ kill       it does not answer: its whole tree of processes is killed, found by its own pid
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from playwright.async_api import BrowserContext, Error, Page, Playwright

from sessions.profiles.browsers import Browser
from sessions.profiles.in_use import unlock, use_of
from sessions.worker.browser.claim import claim
from sessions.worker.browser.errors import BrowserError, BrowserGone, BrowserHangs
from sessions.worker.browser.flags import arguments, user_agent
from sluice.observe.log import Log
from sluice.process.descendants import descendants

LOG = Log("sessions.browser")
T = TypeVar("T")
_OPENS_WITHIN, _CLOSES_WITHIN = 60.0, 10.0
_IN_USE = "ProcessSingleton"
ENDED = "the browser ended, or its page crashed"
_HAS_ENDED = ("Target crashed", "has been closed")


class Chromium:
    def __init__(self, context: BrowserContext, page: Page, profile: Path, pid: int) -> None:
        self._context = context
        self._profile = profile
        self.page = page
        self.pid = pid
        """Of its first process; 0: nobody knows."""
        self.ended = asyncio.Event()
        """It is gone, or its page is."""
        context.on("close", lambda _: self.ended.set())
        page.on("crash", lambda _: self.ended.set())
        page.on("close", lambda _: self.ended.set())

    @classmethod
    async def open(cls, playwright: Playwright, executable: str, profile: Path, about: Browser) -> Chromium:
        """On a profile on which no other runs. Raises BrowserError; then none of its processes is left, nor when it is
        cancelled."""
        opening = asyncio.ensure_future(cls._open(playwright, executable, profile, about))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(BrowserError):
                await (await opening).close()
            raise

    @classmethod
    async def _open(cls, playwright: Playwright, executable: str, profile: Path, about: Browser) -> Chromium:
        await asyncio.to_thread(profile.mkdir, 0o700, parents=True, exist_ok=True)
        try:
            context = await playwright.chromium.launch_persistent_context(
                profile,
                executable_path=executable,
                headless=True,
                args=arguments(),
                user_agent=user_agent(about),
                chromium_sandbox=os.geteuid() != 0,
                service_workers="block",
                timeout=_OPENS_WITHIN * 1000,
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
            )
        except Error as error:
            raise _not_opened(error, executable, profile) from None
        try:
            pid = await asyncio.to_thread(claim, profile, about)
            return cls(context, context.pages[0], profile, pid)
        except OSError as error:
            await cls._left(context)
            raise BrowserGone(f"{profile} could not be claimed: {error.strerror}") from None

    @staticmethod
    async def _left(context: BrowserContext) -> None:
        """Nobody will run this one."""
        with contextlib.suppress(TimeoutError, Error):
            async with asyncio.timeout(_CLOSES_WITHIN):
                await context.close()

    async def within(self, seconds: float, call: Awaitable[T], what: str) -> T:
        """Raises BrowserHangs, and BrowserGone."""
        try:
            async with asyncio.timeout(seconds):
                return await call
        except TimeoutError:
            raise BrowserHangs(f"the page did not answer within {seconds:g} s ({what})") from None
        except Error as error:
            if any(word in error.message for word in _HAS_ENDED):
                raise BrowserGone(ENDED) from None
            raise BrowserGone(f"{_first_line(error)} ({what})") from None

    async def close(self) -> None:
        """It writes what it has, and ends; what does not within some seconds is killed. Then its profile is free."""
        if not await self._closes():
            LOG.warning("browser.killed", pid=self.pid)
            self.kill()
            await self._closes()
        if use_of(self._profile).pid == self.pid:
            unlock(self._profile)

    async def _closes(self) -> bool:
        try:
            async with asyncio.timeout(_CLOSES_WITHIN):
                await self._context.close()
        except TimeoutError:
            return False
        except Error:
            pass  # it is gone already
        except Exception:  # noqa: BLE001 (Playwright's own process has ended, and nobody asks the browser to)
            return False
        return True

    def kill(self) -> None:
        """At once, with all processes below it; never by a name."""
        if self.pid:
            for pid in (self.pid, *descendants(self.pid)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        self.ended.set()


def _not_opened(error: Error, executable: str, profile: Path) -> BrowserError:
    text = str(error)
    if _IN_USE in text:
        return BrowserError(f"a browser runs on {profile} already: {use_of(profile).detail}")
    if "Timeout" in text:
        return BrowserHangs(f"{executable} did not open within {_OPENS_WITHIN:g} s")
    return BrowserGone(f"{executable} did not open: {_first_line(error)}")


def _first_line(error: Error) -> str:
    return error.message.strip().split("\n", 1)[0][:200]
