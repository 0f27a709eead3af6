"""Which process runs on a profile, and that it is seen there.

Chromium notes both by itself: a lock, `SingletonLock`, and its version in `Last Version`. Its headless shell does
neither, so the same is noted for it: what looks at profiles (sessions/profiles) need not know which of the two runs.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from sessions.profiles.browsers import Browser
from sessions.profiles.in_use import LOCKS, use_of
from sluice.process.descendants import descendants


def claim(profile: Path, browser: Browser) -> int:
    """The browser that this process has opened there: its first process; 0: it has gone already."""
    pid = use_of(profile).pid
    if pid:
        return pid
    # The innermost: Debian's shell script, which starts the headless shell, stays above it.
    pid = next((below for below in descendants(os.getpid()) if _is_first(below, profile)), 0)
    if pid:
        (profile / LOCKS[0]).symlink_to(f"{socket.gethostname()}-{pid}")
        (profile / "Last Version").write_text(browser.version, encoding="ascii")
    return pid


def _is_first(pid: int, profile: Path) -> bool:
    """Its other processes say of what type they are."""
    with contextlib.suppress(OSError):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return os.fsencode(f"--user-data-dir={profile}") in arguments and not any(
            one.startswith(b"--type=") for one in arguments
        )
    return False
