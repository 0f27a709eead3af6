"""A session's login between the vault and the folder on which its browser runs.

start      fence in the vault ─▶ is the folder what the newest generation became? ─▶ else it is replaced by that
doubt      its page shows a code ─▶ the newest generation once more ─▶ the one before ─▶ it is given up
running    a snapshot once all of a new login is on the disk, then every `every`
stop       the browser is closed, which writes all it has ─▶ one more, unproven where its page has said nothing
log out    the vault forgets the login, for everybody who had it before
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sessions.profiles import snapshot, space
from sessions.profiles.browsers import Browser
from sessions.profiles.errors import ContentsAway, NoProfile, ProfileError
from sessions.profiles.generations import Generation
from sessions.profiles.in_use import unlock, use_of
from sessions.profiles.restoring import restore
from sessions.profiles.saving import Saved
from sessions.profiles.vault import NothingKept, Vault
from sessions.worker.browser.errors import BrowserError, NotNow
from sessions.worker.browser.noted import begin_anew, note, noted
from sessions.worker.browser.passed_on import PassedOn
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions.browser")
_GROWS = 64 * 2**20
"""Bytes by which a profile grows, without its history."""
_CACHES = ("Cache", "Code Cache", "GPUCache", "DawnGraphiteCache", "DawnWebGPUCache", "Service Worker/CacheStorage")
_MAX_CACHES = 128 * 2**20
_AWAY = (StoreAway, StoreRefused, ContentsAway)
_DOUBTS = 2
"""So many times in a row a login whose page shows a code is restored once more."""


class NotOurs(BrowserError):
    """Another worker has started this session since."""


class Keeping:
    """Of one session, for one start of it. `vault` None: logins stay on this machine."""

    def __init__(
        self,
        vault: Vault | None,
        session: str,
        fence: int,
        profile: Path,
        browser: Browser,
        every: float,
        marks: PassedOn,
    ) -> None:
        self._vault = vault
        self._marks = marks
        self._session = session
        self._fence = fence
        self._profile = profile
        self._browser = browser
        self._every = every
        self.logged_in: float | None = None
        """When somebody scanned its code, in seconds since 1970; None: it was restored, or nobody has."""
        self.passed_on_until: float | None = None
        """Until when all that happened was passed on, in seconds since 1970; None: nobody ran it before."""
        self.had_login = False
        """Whether it is known that somebody has logged in, here or elsewhere, and not that this login is over."""
        self._known: tuple[Generation, ...] = ()
        """Newest first, as of the last start."""
        self._is: int | None = None
        """The generation that the folder was replaced by, and that no browser has written to before this one."""
        self._useless: dict[int, str] = {}
        """Generations whose page showed a code, and what is said of them."""
        self._doubts = 0
        self._due = float("inf")
        self._saving = asyncio.Lock()

    async def prepare(self, check_lease: Callable[[], None]) -> None:
        """Before its browser opens. `check_lease` raises BrowserError where the lease is over: then the folder is left
        as it is, with whatever lock lies there. Raises BrowserError."""
        await asyncio.to_thread(self._check_disk)
        try:
            if self._vault is not None:
                await self._begin(self._vault)
            marked = self.passed_on_until = await self._marks.until()
            check_lease()
            await asyncio.to_thread(self._unlock)
            with suppress(OSError):
                await asyncio.to_thread(self._trim)
            if self._vault is not None:
                await self._restore(self._vault)
            proven = any(not one.unproven for one in self._known)
            self.had_login = self.had_login or marked is not None or proven
        except _AWAY as error:
            raise NotNow(f"its login cannot be restored now: {error}") from None
        except ProfileError as error:
            raise BrowserError(f"its login cannot be restored: {error}") from None

    async def _begin(self, vault: Vault) -> None:
        """From then on nobody who had it before saves it, and nothing of its folder is touched before."""
        if await vault.generations.begin(self._session, self._fence) == "stale":
            raise NotOurs(f"session {self._session} was started elsewhere since")

    async def _restore(self, vault: Vault) -> None:
        """What of the vault is newer than what lies here."""
        known = await vault.generations.of(self._session)
        self._known = known.generations if known is not None and known.deleted is None else ()
        if self._known and not self._doubts and noted(self._profile) == str(self._known[0].number):
            self._is = None
            if self.passed_on_until is None:
                self.passed_on_until = self._known[0].made
            return
        restored = await restore(vault, self._session, self._profile, self._browser, without=self._useless)
        if isinstance(restored, NothingKept):
            if restored.deleted:
                await asyncio.to_thread(begin_anew, self._profile, self._session, f"after {known and known.deleted}")
            return
        self._is = restored.generation.number
        if self.passed_on_until is None:
            self.passed_on_until = restored.generation.made
        await asyncio.to_thread(note, self._profile, self._session, str(restored.generation.number))
        LOG.info("profile.restored", session=self._session, generation=restored.generation.number)

    def doubt(self) -> bool:
        """Its page shows a code, and nobody has said that its login was ended: whether the next start is to restore it
        once more. What its browser wrote last may be damaged, or the generation that it was restored from."""
        if self._is is not None:
            self._useless[self._is] = f"generation {self._is}: its page showed a code"
        left = [one.number for one in self._known if one.number not in self._useless]
        if not left or self._doubts == _DOUBTS:
            return False
        self._doubts += 1
        LOG.error("profile.doubted", session=self._session, generation=self._is or noted(self._profile), next=left[0])
        return True

    def passed_on(self) -> None:
        """All that was told of it so far."""
        self.passed_on_until = self._marks.note()

    def is_new(self) -> None:
        """Its page shows a code, and nobody had logged in: what was kept of it is no login."""
        self.passed_on_until = None

    def connected(self, *, fresh: bool) -> None:
        """It has a login. `fresh`: somebody scanned its code just now."""
        self.had_login = True
        if fresh:
            self.logged_in = time.time()
        if self._due == float("inf") or self._useless:
            soon = self.logged_in is not None or self._useless
            self._due = time.monotonic() + (snapshot.FLUSHED if soon else self._every)
        self._doubts = 0
        self._useless.clear()

    async def save_when_due(self) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every
            await self.save()

    async def save(self, *, closed: bool = False, proven: bool = True) -> bool:
        """Whether it is kept now. `closed`: no browser runs there any more, so all of it is on the disk. Not `proven`:
        its page has not said whether anybody has logged in."""
        if self._vault is None:
            return False
        async with self._saving:
            try:
                saved = await snapshot.save(
                    *(self._vault, self._session, self._fence, self._profile),
                    logged_in=None if closed else self.logged_in,
                    product=self._browser.product,
                    proven=proven,
                )
            except NoProfile as error:
                if proven:
                    LOG.error("profile.not_saved", session=self._session, reason=str(error))
                return False
            except snapshot.TooYoung as error:
                self._due = time.monotonic() + max(error.wait, 1.0)
                return False
            except (ProfileError, OSError, *_AWAY) as error:
                LOG.error("profile.not_saved", session=self._session, reason=str(error))
                return False
        if not isinstance(saved, Saved):
            LOG.warning("profile.not_saved", session=self._session, reason=saved)
            return False
        await asyncio.to_thread(note, self._profile, self._session, str(saved.generation))
        return True

    async def forget(self, *, goes_on: bool = False) -> None:
        """Its phone has ended it, or a person: nobody logs in with it any more. `goes_on`: somebody may scan its next
        code."""
        self._due = float("inf")
        self.logged_in = self.passed_on_until = None
        self.had_login = False
        self._doubts = 0
        self._useless.clear()
        try:
            await self._marks.forget()
            if self._vault is not None:
                await self._vault.generations.delete(self._session, self._fence, goes_on=goes_on)
        except _AWAY as error:
            LOG.error("profile.not_deleted", session=self._session, reason=str(error))
        await asyncio.to_thread(shutil.rmtree, self._profile, ignore_errors=True)

    def _trim(self) -> None:
        """Of what a browser makes anew, once it is large; none runs there. Most have no bound, and some grow daily."""
        folders = [self._profile / "Default" / name for name in _CACHES]
        size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
        if size > _MAX_CACHES:
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)

    def _check_disk(self) -> None:
        self._profile.parent.mkdir(0o700, parents=True, exist_ok=True)
        try:
            space.check(self._profile.parent, _GROWS)
        except space.LowSpace as error:
            raise BrowserError(str(error)) from None

    def _unlock(self) -> None:
        """A lock of a process that is gone, or of another machine: the lease says that nobody runs it there."""
        use = use_of(self._profile)
        if use.state == "in_use":
            raise BrowserError(f"{self._profile}: {use.detail}")
        if use.state != "free":
            unlock(self._profile)
