"""A copy of a profile of which all files are of one moment, though its browser runs.

    no browser runs      ─▶ copy ──────────────────────────────▶ ┐
    one runs             ─▶ pause it ─▶ copy ─▶ it goes on ────▶ ┴─▶ whole? ─▶ the vault
                               └─ too slow: it goes on, again later

While it stands still, what a browser never writes twice (tables of LevelDB, blobs) gets a second name, a hard link, and
only the small rest is copied: that takes milliseconds. A browser writes IndexedDB at once, localStorage within 8 s and
cookies within 35 s, so the first snapshot after a login waits until all of it is on the disk.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sessions.profiles import browsers, space
from sessions.profiles.browsers import Browser, Unfit
from sessions.profiles.errors import ProfileError
from sessions.profiles.generations import Refused
from sessions.profiles.in_use import InUse, use_of
from sessions.profiles.leveldb import check_databases, trim_logs
from sessions.profiles.manifest import Origin, unproven
from sessions.profiles.packing import ChangedMeanwhile
from sessions.profiles.pausing import LIMIT, TooSlow, paused
from sessions.profiles.portable import ProfileFile, backend_of, portable_files
from sessions.profiles.saving import Saved
from sessions.profiles.threads import in_thread
from sessions.profiles.vault import Vault
from sluice import __version__

FLUSHED = 60.0
"""Seconds after a login in which a browser has written all of it; twice what was measured."""
_FOLDER = ".sluice-snapshot"
_TABLES, _BLOBS = (".ldb", ".sst"), ".indexeddb.blob/"
_BEGUN = 10.0
"""Seconds after the last byte in which a table or a blob counts as one that is not finished: it would grow through its
second name."""
_TRIES = (0.0, 0.5, 1.0)
"""Seconds before each."""
_COPIED = 2**20


class TooYoung(ProfileError):
    """Some of the login is not on the disk yet."""

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message)
        self.wait = wait
        """Seconds; 0: waiting is of no use."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    folder: Path
    origin: Origin
    paused: float
    """Seconds for which the browser stood still; 0: none runs."""


@contextmanager
def snapshot(
    profile: Path, *, logged_in: float | None = None, product: str = "", limit: float = LIMIT
) -> Iterator[Snapshot]:
    """In a folder beside the profile, which is gone afterwards.

    `logged_in`: when somebody scanned its code, in seconds since 1970; None: it was restored, or that is long ago.
    `product`: of its browser, as `Chromium`; nothing on the disk says it. Blocks for up to a few seconds.

    Raises ProfileError: InUse for a lock of another machine and for two at a time, TooYoung, TooSlow and NotPaused,
    LowSpace, NoProfile, Broken; and OSError. Nothing of the profile is changed by any of them.
    """
    folder = profile.with_name(profile.name + _FOLDER)
    with _lock(profile) as lock:
        shutil.rmtree(folder, ignore_errors=True)
        _check_flushed(profile, logged_in)
        try:
            pause, files = _take(profile, folder, lock, limit)
            _check_copy(folder, files)
            origin = Origin(
                Browser(product, browsers.last_version(profile)).name,
                backend_of(folder),
                socket.gethostname(),
                f"sluice {__version__}",
            )
            yield Snapshot(folder, origin, pause)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def save(
    vault: Vault,
    session: str,
    fence: int,
    profile: Path,
    *,
    logged_in: float | None = None,
    product: str = "",
    proven: bool = True,
    limit: float = LIMIT,
) -> Saved | Refused:
    """A snapshot of the profile, as the newest generation. Not `proven`: nobody knows whether it has a login.

    Raises as `snapshot` and `Vault.save` do, and Unfit for a profile whose IndexedDB a browser has replaced by an empty
    one.
    """
    taking = snapshot(profile, logged_in=logged_in, product=product, limit=limit)
    try:
        taken = await in_thread(taking.__enter__)
        known = await vault.generations.of(session)
        newest = known.newest if known is not None and known.deleted is None else None
        if newest is not None and logged_in is None:
            _check_backend(newest.backend, taken.origin.backend)
        origin = taken.origin if proven else unproven(taken.origin)
        return await vault.save(session, fence, taken.folder, origin)
    finally:
        await in_thread(taking.__exit__, None, None, None)


def _check_backend(kept: str, now: str) -> None:
    if kept and now != kept:
        raise Unfit(
            f"the profile kept its IndexedDB in {kept}, and now in {now}: a browser with other settings of "
            "IdbSqliteOnDiskRollout has replaced it, and the login is gone there. The vault has it: start that browser "
            "with the same settings as the others (docs/vault.md), and the session anew"
        )


@contextmanager
def _lock(profile: Path) -> Iterator[int]:
    """One snapshot at a time, on this machine."""
    number = os.open(profile, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InUse(f"another snapshot of {profile} is being made") from None
    else:
        yield number
    finally:
        os.close(number)


def _check_flushed(profile: Path, logged_in: float | None) -> None:
    if logged_in is None:
        return
    use = use_of(profile)
    if use.state == "free":
        return  # it was closed properly, and has written all it had
    runs = use.state == "in_use"
    wrote = time.time() if runs else max((profile / file.name).stat().st_mtime for file in portable_files(profile))
    if (wait := logged_in + FLUSHED - wrote) <= 0:
        return
    if not runs:
        raise TooYoung(
            f"the browser on {profile} was killed {wrote - logged_in:.0f} s after the login, and had not written all "
            "of it: start the session once more; if it asks for a code, scan it",
            0.0,
        )
    raise TooYoung(
        f"somebody logged in {wrote - logged_in:.0f} s ago, and the browser writes all of it within {FLUSHED:.0f} s: "
        f"wait {wait:.0f} s, or stop the session, and it is saved at once",
        wait,
    )


def _take(profile: Path, folder: Path, lock: int, limit: float) -> tuple[float, list[ProfileFile]]:
    """For how many seconds the browser stood still, and what was copied."""
    use = use_of(profile)
    if use.state == "foreign":
        raise InUse(f"{profile}: {use.detail}")
    if use.state == "in_use":
        return _take_running(profile, folder, use.pid, lock, limit)
    files = _copy(profile, folder, lambda: None)
    if use_of(profile) != use:
        raise ChangedMeanwhile(f"a browser started on {profile} while it was copied: try again")
    return 0.0, files


def _take_running(profile: Path, folder: Path, pid: int, lock: int, limit: float) -> tuple[float, list[ProfileFile]]:
    slow: TooSlow | None = None
    for wait in _TRIES:
        time.sleep(wait)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            with paused(pid, profile, lock, limit) as pause:
                files = _copy(profile, folder, pause.check)
        except TooSlow as error:
            slow = error
        else:
            return pause.seconds, files
    assert slow is not None
    raise slow


def _copy(profile: Path, folder: Path, check: Callable[[], None]) -> list[ProfileFile]:
    files, links = portable_files(profile), set[str]()
    for file in files:
        if _is_final(profile / file.name, file.name):
            links.add(file.name)
    space.check(profile.parent, sum(file.size for file in files if file.name not in links))
    for parent in {(folder / file.name).parent for file in files}:
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for file in files:
        check()
        if file.name not in links or not _link(profile / file.name, folder / file.name):
            _write(profile / file.name, folder / file.name, file, check)
    return files


def _is_final(path: Path, name: str) -> bool:
    """Nobody writes to it again: it is a table or a blob, and was not begun just now."""
    return (name.endswith(_TABLES) or _BLOBS in name) and path.lstat().st_mtime < time.time() - _BEGUN


def _link(source: Path, target: Path) -> bool:
    """False on a file system without hard links, and for a file of another user."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return False
    return True


def _write(source: Path, target: Path, file: ProfileFile, check: Callable[[], None]) -> None:
    number = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    left = file.size
    with open(number, "rb", buffering=0) as read, target.open("xb", buffering=0) as written:
        while left and (sent := os.sendfile(written.fileno(), read.fileno(), None, min(left, _COPIED))):
            left -= sent
            check()
    if left:
        raise ChangedMeanwhile(f"{file.name} became shorter while it was copied: its browser runs")


def _check_copy(folder: Path, files: Sequence[ProfileFile]) -> None:
    """Raises Broken and ChangedMeanwhile."""
    check_databases(folder)
    trim_logs(folder)
    there = {file.name for file in portable_files(folder)}
    if there != {file.name for file in files}:
        raise ChangedMeanwhile(f"{folder} is not what was copied: somebody else writes there")
