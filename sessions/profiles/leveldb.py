"""Whether the LevelDB databases of a profile can be opened: each has a CURRENT, which names a manifest that is there,
and the manifest names files that are there.

One that does not is corrupted for Chromium, which puts an empty one in its place: the login is gone without a word.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sessions.profiles.errors import Broken
from sessions.profiles.leveldb_manifest import live_files
from sessions.profiles.portable import TREES

_FILE = re.compile(r"CURRENT|MANIFEST-\d{6,}|\d{6,}\.(?:log|ldb|sst)")
_CURRENT = re.compile(rb"MANIFEST-\d{6,}\n")
_MAX = 64
"""Bytes of a CURRENT."""
_MAX_MANIFEST = 16 * 2**20
"""Bytes; LevelDB begins another one at 2 MiB when it opens a database."""


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
    _check_files(folder, name, manifest)


def _check_files(folder: Path, name: str, manifest: Path) -> None:
    with manifest.open("rb") as file:
        content = file.read(_MAX_MANIFEST)
    try:
        live = live_files(content)
    except ValueError as error:
        raise Broken(f"{name}/{manifest.name} is no manifest of LevelDB: {error}") from None
    missing = [f"{number:06}.ldb" for number, size in live.tables.items() if not _is_whole(folder, number, size)]
    log = f"{live.log:06}.log" if live.log else "*.log"
    if not any(folder.glob(log)):
        missing.append(log)
    if missing:
        raise Broken(
            f"{name} has no whole {', '.join(missing[:3])}, which its {manifest.name} names: it was copied while its "
            "browser wrote it"
        )


def _is_whole(folder: Path, number: int, size: int) -> bool:
    """Old versions of LevelDB call their tables .sst."""
    tables = (folder / f"{number:06}.{suffix}" for suffix in ("ldb", "sst"))
    return any(table.is_file() and table.stat().st_size == size for table in tables)
