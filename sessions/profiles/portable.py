"""Which files of a browser's profile a login needs on another machine: its portable set.

IndexedDB with its blobs, Local Storage and the cookies; nothing less works, and all else the browser makes anew. A
RemoteAuth of whatsapp-web.js keeps the first two. Names are relative to the user-data directory, with `/`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sessions.profiles.errors import NoProfile, TooLarge, Unsafe

MAX_PROFILE = 512 * 2**20
"""Bytes."""
MAX_FILES = 20_000
MAX_NAME = 1024
"""Bytes of a file's name with its folders."""
TREES = ("Default/IndexedDB", "Default/Local Storage")
COOKIES = ("Default/Cookies", "Default/Cookies-journal", "Default/Network/Cookies", "Default/Network/Cookies-journal")
_LEFT_OUT = frozenset({"LOCK", "LOG", "LOG.old"})
"""Of a LevelDB: what holds no data, and differs from start to start."""


@dataclass(frozen=True, slots=True)
class ProfileFile:
    name: str
    size: int


def portable_files(profile: Path) -> list[ProfileFile]:
    """In the order of their names. Raises NoProfile, TooLarge, Unsafe for a symbolic link, and OSError."""
    files = sorted(islice(_found(profile), MAX_FILES + 1), key=lambda file: file.name)
    if not any(file.name.startswith(TREES[0] + "/") for file in files):
        raise NoProfile(f"{profile} has no Default/IndexedDB: no page has logged in there yet, or it is another folder")
    if len(files) > MAX_FILES:
        raise TooLarge(f"{profile} has over {MAX_FILES:,} files of a login")
    size = sum(file.size for file in files)
    if size > MAX_PROFILE:
        raise TooLarge(f"the login in {profile} has {size >> 20} MiB; {MAX_PROFILE >> 20} MiB are kept at most")
    return files


def _found(profile: Path) -> Iterator[ProfileFile]:
    for folder in ("Default", "Default/Network", *TREES):
        _refuse_link(profile / folder)
    for tree in filter(lambda tree: (profile / tree).exists(), TREES):
        for folder, folders, names in os.walk(profile / tree, onerror=_raise):
            for name in sorted([*folders, *names]):
                _refuse_link(Path(folder) / name)
            yield from (_file(profile, Path(folder) / name) for name in names if name not in _LEFT_OUT)
    for cookies in COOKIES:
        if (profile / cookies).is_file() and not (profile / cookies).is_symlink():
            yield _file(profile, profile / cookies)


def _raise(error: OSError) -> None:
    """What cannot be read must not be missing without a word."""
    raise error


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise Unsafe(f"{path} is a symbolic link, which no browser makes; remove it")


def _file(profile: Path, path: Path) -> ProfileFile:
    known = path.lstat()
    if not stat.S_ISREG(known.st_mode):
        raise Unsafe(f"{path} is no file, which no browser makes; remove it")
    return ProfileFile(safe_name(path.relative_to(profile).as_posix()), known.st_size)


def safe_name(name: str) -> str:
    """A name that stays within the portable set when it is written. Raises Unsafe."""
    parts = name.split("/")
    inside = name in COOKIES or any(name.startswith(tree + "/") for tree in TREES)
    if not inside or any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable():
        raise Unsafe(f"{name[:200]!r} is no file of a login")
    if len(name.encode("utf-8", "surrogateescape")) > MAX_NAME:
        raise Unsafe(f"a file's name is over {MAX_NAME} bytes")
    return name


def backend_of(profile: Path) -> str:
    """How the browser keeps its IndexedDB there: `leveldb`, `sqlite`, or `none`. One that is set to the other deletes
    what it finds, so it is compared before a profile is restored."""
    tree = profile / TREES[0]
    try:
        names = os.listdir(tree)
    except OSError:
        return "none"
    if any(name.endswith(".indexeddb.leveldb") for name in names):
        return "leveldb"
    return "sqlite" if any((tree / name).is_dir() for name in names) else "none"
