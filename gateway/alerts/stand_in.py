"""Who tells what goes wrong while the store is away: one process of each machine, by a lock in the data folder.

What it remembers meanwhile lies beside the lock, for whoever goes on where it was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from gateway.alerts.board import Memory, decode

_LOCK, _FILE = "alerts.lock", "alerts.json"
_MAX_FILE = 16 * 2**20
_MAX_AGE = 600.0
"""Seconds: it is written every few of them, so what is older is of another time."""


class StandIn:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None

    @property
    def held(self) -> bool:
        return self._lock is not None

    def take(self) -> bool:
        """Whether this process has the lock. A folder in which nothing can be locked keeps nobody from telling."""
        if self._lock is not None:
            return True
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    def let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self) -> Memory | None:
        """What a process remembered that had the lock; None: there is nothing."""
        path = self._folder / _FILE
        try:
            about = path.stat()
            if about.st_size > _MAX_FILE or time.time() - about.st_mtime > _MAX_AGE:
                return None
            return decode(path.read_bytes())
        except OSError:
            return None

    def write(self, memory: Memory) -> None:
        """A folder that cannot be written costs a second message at most, when this process is killed, too."""
        new = self._folder / f"{_FILE}.new"
        with contextlib.suppress(OSError):
            with open(new, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(memory.encode())
            new.replace(self._folder / _FILE)

    def forget(self) -> None:
        """It lies in the store now."""
        with contextlib.suppress(OSError):
            (self._folder / _FILE).unlink(missing_ok=True)
