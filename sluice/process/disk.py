"""How full the file system of a folder is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Disk:
    """In bytes, as far as this user may use them."""

    path: str
    free: int
    total: int


def disk_of(folder: Path) -> Disk | None:
    """None where there is no such folder."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return Disk(str(folder), found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
