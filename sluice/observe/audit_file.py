"""The file of the audit log: one line of JSON each, written by several processes."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from sluice.config import LogPolicy
from sluice.observe.log_outputs import make_room

_LOCK_TIMEOUT = 1.0  # seconds


def path_in(data: Path) -> Path:
    return data / "logs" / "audit.jsonl"


def append(path: Path, line: bytes, policy: LogPolicy) -> None:
    """Each process in its turn. A full one is moved away, and a new one begins. Blocks; raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path.with_name(".audit.lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(file)
        if path.exists() and path.stat().st_size + len(line) > policy.size:
            make_room(path, policy.files)
        with open(path, "ab+", opener=_private) as log:
            size = log.seek(0, os.SEEK_END)
            cut = size > 0 and os.pread(log.fileno(), 1, size - 1) != b"\n"  # by a full disk
            log.write(b"\n" + line if cut else line)
    finally:
        os.close(file)


def _lock(file: int) -> None:
    """Raises OSError where another process holds it for too long, as one that was stopped does."""
    deadline = time.monotonic() + _LOCK_TIMEOUT
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
