"""Chunks in a folder: `<session>/<number>/<chunk>`.

Written here and not by a library for objects, as those do not call fsync: the store would remember a generation whose
chunks a crash of the machine had lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from sessions.profiles.errors import ContentsAway, ContentsFull
from sessions.profiles.names import folder_of
from sessions.profiles.sealing import LONGEST
from sessions.profiles.threads import in_thread

_ATTEMPTS = 5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
T = TypeVar("T")


class InFolder:
    """A folder that a person makes or mounts, so it is not made here: what is not mounted must not look like an empty
    vault, and fill the disk below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        await self._do("written", _put, session, of, name, sealed)

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        return await self._do("read", _get, session, of, name)

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        return await self._do("read", _missing, session, chunks)

    async def lying(self, session: str) -> dict[tuple[int, str], int]:
        return await self._do("read", _lying, session)

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        await self._do("erased", _erase, session, chunks)

    async def _do(self, what: str, act: Callable[..., T], session: str, *args: object) -> T:
        try:
            return await in_thread(_inside, self._folder, act, session, *args)
        except OSError as error:
            why = f"the vault in {self._folder} cannot be {what}: {error.strerror or error}"
            if error.errno in _FULL:
                raise ContentsFull(f"{why}: make room there, or have `sluice vault prune` do it") from error
            raise ContentsAway(why) from error


def _inside(folder: Path, act: Callable[..., T], session: str, *args: object) -> T:
    if not folder.is_dir():
        raise ContentsAway(f"the vault's folder {folder} is not there: make it (mkdir -m 700 {folder}), or mount it")
    return act(folder / folder_of(session), *args)


def _put(kept: Path, of: int, name: str, sealed: bytes) -> None:
    """What is swept at once, as its number is settled, is not there for who reads it back."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):  # somebody sweeps there, and took the file or its empty folder
            _write(kept, kept / str(of), name, sealed)
            break


def _write(kept: Path, folder: Path, name: str, sealed: bytes) -> None:
    half = folder / f".{name}.{secrets.token_hex(4)}"
    for made in (kept, folder):
        with contextlib.suppress(FileExistsError):
            made.mkdir(mode=0o700)
            _to_disk(made.parent)
    try:
        with open(half, "xb", opener=_private) as file:
            file.write(sealed)
            file.flush()
            os.fsync(file.fileno())
        half.rename(folder / name)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    _to_disk(folder)


def _get(kept: Path, of: int, name: str) -> bytes | None:
    try:
        with open(kept / str(of) / name, "rb") as file:
            return file.read(LONGEST + 1)  # what is longer is not ours, and is found to be broken
    except FileNotFoundError:
        return None


def _missing(kept: Path, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
    return {(of, name) for of, name in chunks if not (kept / str(of) / name).is_file()}


def _lying(kept: Path) -> dict[tuple[int, str], int]:
    found: dict[tuple[int, str], int] = {}
    with contextlib.suppress(FileNotFoundError):  # what goes meanwhile is gone, and the rest is found the next time
        for folder in kept.iterdir():
            if folder.name.isdecimal():
                with os.scandir(folder) as files:
                    found |= {(int(folder.name), file.name): file.stat().st_size for file in files}
    return found


def _erase(kept: Path, chunks: Iterable[tuple[int, str]]) -> None:
    folders = set()
    for of, name in chunks:
        (kept / str(of) / name).unlink(missing_ok=True)
        folders.add(kept / str(of))
    for folder in (*folders, kept) if folders else ():
        with contextlib.suppress(OSError):  # something else is in it
            folder.rmdir()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _to_disk(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
