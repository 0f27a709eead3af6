"""Whether the LevelDB databases of a profile can be opened: each has a CURRENT, which names a manifest that is there.

One that does not is corrupted for Chromium, which puts an empty one in its place: the login is gone without a word.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sessions.profiles.errors import Broken
from sessions.profiles.portable import TREES

_FILE = re.compile(r"CURRENT|MANIFEST-\d{6,}|\d{6,}\.(?:log|ldb|sst)")
_CURRENT = re.compile(rb"MANIFEST-\d{6,}\n")
_MAX = 64
"""Bytes of a CURRENT."""


def check_databases(profile: Path) -> None:
    """Raises Broken, and OSError."""
    for tree in TREES:
        for folder, _, names in os.walk(profile / tree):
            if any(_FILE.fullmatch(name) for name in names):
                _check(Path(folder), Path(folder).relative_to(profile).as_posix())


def _check(folder: Path, name: str) -> None:
    try:
        with (folder / "CURRENT").open("rb") as file:
            current = file.read(_MAX)
    except FileNotFoundError:
        raise Broken(f"{name} has no CURRENT: it was copied while its browser wrote it") from None
    if not _CURRENT.fullmatch(current):
        raise Broken(f"{name}/CURRENT names no manifest: it was copied while its browser wrote it")
    manifest = folder / current.decode().strip()
    if not manifest.is_file() or not manifest.stat().st_size:
        raise Broken(
            f"{name} has no {manifest.name}, which its CURRENT names: it was copied while its browser wrote it"
        )
