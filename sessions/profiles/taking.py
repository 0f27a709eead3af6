"""A login of another program is copied before anything else is done with it, and only ever read.

A copy counts when its source is the same before and after it, and no browser runs there: a browser that started
meanwhile makes half a login of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sessions.profiles import zips
from sessions.profiles.browsers import last_version
from sessions.profiles.errors import ProfileError
from sessions.profiles.found import FoundLogin
from sessions.profiles.in_use import Use, use_of
from sessions.profiles.packing import ChangedMeanwhile
from sessions.profiles.portable import ProfileFile, backend_of, portable_files

_READ = 256 * 1024


@dataclass(frozen=True, slots=True)
class Looked:
    """What a login is, without reading all of it."""

    size: int
    """Bytes of its files."""
    files: int
    content: str
    """The same as long as nobody has written there."""
    use: Use
    backend: str = ""
    """How its browser keeps IndexedDB, `leveldb` or `sqlite`; empty: not known before it is unpacked."""
    browser: str = ""
    """As `156.0.8078.79`: its product is noted nowhere. Empty: neither is this."""


def look(login: FoundLogin) -> Looked:
    """Raises ProfileError and OSError."""
    if login.form == "remote_auth_zip":
        known = login.path.stat()
        files = zips.listed(login.path)
        content = _digest([(login.path.name, known.st_size, known.st_mtime_ns)])
        return Looked(sum(file.size for file in files), len(files), content, Use("free"))
    use, files = use_of(login.path), portable_files(login.path)
    return Looked(
        size=sum(file.size for file in files),
        files=len(files),
        content=_digest([_seen(login.path / file.name) for file in files]),
        use=use,
        backend=backend_of(login.path),
        browser=last_version(login.path),
    )


def take(login: FoundLogin, looked: Looked, folder: Path) -> None:
    """Copies it into a folder that is not there yet. Raises ProfileError and OSError."""
    if login.form == "remote_auth_zip":
        zips.extract(login.path, folder)
    else:
        copy(login.path, portable_files(login.path), folder)
    after = look(login)
    if after.use.state == "in_use":
        raise ChangedMeanwhile(f"process {after.use.pid} began to run on it while it was read: run this again later")
    if after.content != looked.content:
        raise ChangedMeanwhile(f"{login.path} changed while it was read: stop what writes there, and run this again")


def copy(source: Path, files: Sequence[ProfileFile], folder: Path) -> None:
    """Never through a symbolic link, and never more of a file than it had. Raises ChangedMeanwhile and OSError."""
    for file in files:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        number = os.open(source / file.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        left = file.size
        with open(number, "rb") as read, path.open("xb") as written:
            while left and (data := read.read(min(left, _READ))):
                written.write(data)
                left -= len(data)
        if left:
            raise ChangedMeanwhile(f"{file.name} became shorter while it was read: its browser runs")


def difference(one: Path, other: Path) -> str | None:
    """The name of a file by which two profiles differ, byte for byte; None: they are the same."""
    files, others = ({file.name: file.size for file in portable_files(folder)} for folder in (one, other))
    for name in sorted(files.keys() | others.keys()):
        if files.get(name) != others.get(name) or not _same(one / name, other / name):
            return name
    return None


def _same(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        while True:
            data, same = a.read(_READ), b.read(_READ)
            if data != same:
                return False
            if not data:
                return True


class AlreadyRuns(ProfileError):
    """Another process has this folder."""


@contextmanager
def private_folder(folder: Path) -> Iterator[Path]:
    """For copies of logins: readable for this user alone, for one process at a time, and gone at the end. What a run
    that was killed has left there is removed. Raises AlreadyRuns and OSError."""
    folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise AlreadyRuns(f"another migration or export works in {folder}: wait until it has ended") from None
    try:
        _empty(folder)
        yield folder
    finally:
        _empty(folder)
        with suppress(OSError):
            folder.rmdir()
        os.close(lock)


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        remove(left)


def remove(path: Path) -> None:
    """Of our own making."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _seen(path: Path) -> tuple[str, int, int]:
    known = path.lstat()
    return str(path), known.st_size, known.st_mtime_ns


def _digest(seen: Sequence[tuple[str, int, int]]) -> str:
    return hashlib.sha256(repr(list(seen)).encode()).hexdigest()[:16]
