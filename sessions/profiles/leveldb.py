"""Whether the LevelDB databases of a profile can be opened: each has a CURRENT, which names a manifest that is there,
and the manifest names files that are there.

One that does not is corrupted for Chromium, which puts an empty one in its place: the login is gone without a word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sessions.profiles.errors import Broken
from sessions.profiles.leveldb_manifest import BLOCK, begins_a_log, live_files, whole_records
from sessions.profiles.portable import TREES

_FILE = re.compile(r"CURRENT|MANIFEST-\d{6,}|\d{6,}\.(?:log|ldb|sst)")
_CURRENT = re.compile(rb"MANIFEST-\d{6,}\n")
_MAX = 64
"""Bytes of a CURRENT."""
_MAX_MANIFEST = 16 * 2**20
"""Bytes; LevelDB begins another one at 2 MiB when it opens a database."""


def check_databases(profile: Path) -> None:
    """Raises Broken, and OSError."""
    for folder in _databases(profile):
        _check(folder, folder.relative_to(profile).as_posix())


def trim_logs(profile: Path) -> None:
    """Of a copy: takes away the last record of each log where it is cut. LevelDB reads over that, and then, as Chromium
    has it reuse logs, writes behind it: what comes after can be read by nobody, and the next start drops the database.
    Raises Broken for a log to which that has happened, and OSError."""
    for folder in _databases(profile):
        for log in folder.glob("*.log"):
            try:
                _trim(log)
            except ValueError:
                raise Broken(
                    f"{log.relative_to(profile).as_posix()} is broken: a record of it was cut, and others lie behind it"
                ) from None


def _trim(log: Path) -> None:
    at = whole = 0
    with log.open("r+b") as file:
        if not begins_a_log(file.read(BLOCK)):
            return
        file.seek(0)
        while block := file.read(BLOCK):
            end, goes_on = whole_records(block)
            whole = at + end if end else whole
            at += len(block)
            if not goes_on:
                break
        if whole < log.stat().st_size and not file.read(1):
            file.truncate(whole)


def _databases(profile: Path) -> Iterator[Path]:
    for tree in TREES:
        for folder, _, names in os.walk(profile / tree):
            if any(_FILE.fullmatch(name) for name in names):
                yield Path(folder)


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
