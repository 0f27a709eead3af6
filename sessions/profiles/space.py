"""How much of a disk stays free. Where there is little left, Chromium deletes IndexedDB of whole origins by itself, and
a login with it, but not its localStorage."""

from __future__ import annotations

import os
from pathlib import Path

from sessions.profiles.errors import ProfileError

_MOST = 2**30
_SHARE = 100


class LowSpace(ProfileError):
    """The disk is nearly full."""


def check(folder: Path, size: int) -> None:
    """Before `size` bytes are written there: 1 % of the disk, or 1 GiB where that is less, is left after it, as
    Chromium has it. Raises LowSpace and OSError."""
    disk = os.statvfs(folder)
    free, floor = disk.f_bavail * disk.f_frsize, min(_MOST, disk.f_blocks * disk.f_frsize // _SHARE)
    if free - size < floor:
        raise LowSpace(
            f"{folder} has {free / 2**20:,.0f} MiB free, {size / 2**20:,.0f} are needed, and {floor / 2**20:,.0f} have "
            "to stay free: below that browsers delete logins. Free some space there"
        )
