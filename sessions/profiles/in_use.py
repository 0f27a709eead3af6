"""Whether a browser runs on a profile: Chromium's own lock, a symbolic link `SingletonLock` to `<host>-<pid>`.

A lock may be believed to be left over only where that can be known: its host is ours, and its process is gone. A folder
that came from another machine carries that one's lock; who may take it away is decided by who has the session.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sessions.profiles.errors import ProfileError

LOCKS = ("SingletonLock", "SingletonCookie", "SingletonSocket")
_LOCK = LOCKS[0]


class InUse(ProfileError):
    """A browser runs on this profile, or nobody knows whether one does."""


@dataclass(frozen=True, slots=True)
class Use:
    state: Literal["free", "in_use", "left_over", "foreign"]
    """`left_over`: its process on this machine is gone. `foreign`: it was made on another machine."""
    pid: int = 0
    host: str = ""

    @property
    def detail(self) -> str:
        """For a person."""
        match self.state:
            case "free":
                return "no browser runs on it"
            case "in_use":
                return f"process {self.pid} runs on it: stop it first"
            case "left_over":
                return f"process {self.pid}, which ran on it, is gone"
            case "foreign":
                return f"it was locked on {self.host}: stop the browser there, or remove SingletonLock if none runs"


def use_of(profile: Path, host: str | None = None) -> Use:
    """`host`: the name of this machine. Raises OSError but for a lock that is not there."""
    try:
        target = os.readlink(profile / _LOCK)
    except FileNotFoundError:
        return Use("free")
    on, _, number = target.rpartition("-")
    if not number.isdigit() or on != (socket.gethostname() if host is None else host):
        return Use("foreign", host=on or target)
    pid = int(number)
    return Use("in_use" if _runs(pid) else "left_over", pid, on)


def check_free(profile: Path) -> None:
    """Before it is replaced. Raises InUse, and OSError but for a profile that is not there."""
    use = use_of(profile)
    if use.state in ("in_use", "foreign"):
        raise InUse(f"{profile} cannot be replaced: {use.detail}")


def unlock(profile: Path) -> None:
    """Takes a browser's lock away. Only for who knows that none runs there."""
    for name in LOCKS:
        (profile / name).unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return pid < 2**31
    try:  # one that has ended, and that nobody has waited for: in containers whose first process does not, for ever
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except OSError:
        return True
