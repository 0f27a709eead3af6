"""Room for transfers of profiles: how many of them there may be, and the files that they need for a while.

    <data>/transfers/<random>/             of one process, which keeps it locked; without that process it is swept
                     <random>/<random>/    of one transfer: a profile that is packed or was unpacked

A zip lies in a file without a name, which is gone with whoever has it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any
from weakref import WeakValueDictionary

from sessions.profiles import space
from sessions.profiles.threads import in_thread
from sluice.http.problem import Refusal
from sluice.observe.log import Log

LOG = Log("sessions")
FOLDER = "transfers"
OPEN = 8
"""Transfers of one process: beyond it one is refused at once."""
AT_WORK = 2
"""Of them may pack or unpack a profile at a time."""
WAIT = 60.0
"""Seconds that one waits for that, at most."""
LONGEST = 3600.0
"""Seconds in which the body of one has come, and its answer is taken."""


class Transfers:
    """Of one process. `data`: its data folder."""

    def __init__(self, data: Path) -> None:
        self._base = data / FOLDER
        self._own: Path | None = None
        self._lock = -1
        self._making = threading.Lock()
        self._at_work = asyncio.Semaphore(AT_WORK)
        self._saving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.open = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """One more of them. Raises Refusal 503 where there are too many."""
        if self.open >= OPEN:
            raise _busy(f"{OPEN} transfers of profiles are under way in this process")
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Raises Refusal 503 where others work for too long."""
        await _in_time(self._at_work.acquire(), f"{AT_WORK} profiles are packed or unpacked, and others wait")
        try:
            yield
        finally:
            self._at_work.release()

    @asynccontextmanager
    async def saving(self, session: str) -> AsyncIterator[None]:
        """Nobody else saves it here: of two saves of one start the earlier would be refused as stale. Raises Refusal
        503 where that takes too long."""
        alone = self._saving.setdefault(session, asyncio.Lock())
        await _in_time(alone.acquire(), f"another save of {session} is under way")
        try:
            yield
        finally:
            alone.release()

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A new one, which is gone afterwards with all that is in it. Raises OSError."""
        made = await in_thread(self._new_folder)
        try:
            yield made
        finally:
            await in_thread(_remove, made)

    def file(self, size: int) -> IO[bytes]:
        """A new one without a name, where so many bytes will be written. Raises LowSpace and OSError; it blocks."""
        folder = self._folder()
        space.check(folder, size)
        return tempfile.TemporaryFile(dir=folder)

    def sweep(self) -> None:
        """What processes have left that did not end by themselves. It blocks."""
        with contextlib.suppress(FileNotFoundError):
            for left in self._base.iterdir():
                if left != self._own and (lock := _locked(left)) is not None:
                    _remove(left)
                    os.close(lock)
                    LOG.info("transfers.swept", folder=str(left))

    def close(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            _remove(own)
            os.close(self._lock)

    def _new_folder(self) -> Path:
        made = self._folder() / secrets.token_hex(8)
        made.mkdir(mode=0o700)
        return made

    def _folder(self) -> Path:
        with self._making:
            while self._own is None:
                folder = self._base / secrets.token_hex(8)
                folder.mkdir(parents=True, mode=0o700)
                lock = _locked(folder)  # None: another process has swept it before it was locked
                if lock is not None:
                    self._own, self._lock = folder, lock
            return self._own


async def _in_time(acquiring: Coroutine[Any, Any, object], otherwise: str) -> None:
    try:
        async with asyncio.timeout(WAIT):
            await acquiring
    except TimeoutError:
        raise _busy(otherwise) from None


def _locked(folder: Path) -> int | None:
    """A descriptor that keeps it locked; None: somebody else has it, or it is gone."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(number), os.stat(folder)):
            return number
    except OSError:
        pass
    os.close(number)
    return None


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _busy(why: str) -> Refusal:
    return Refusal(503, f"{why}; try again", retry_after=b"5")
