"""Logins of other programs on a disk: which folders and zips below a path are one, and whose.

session-<id>, session                              LocalAuth of whatsapp-web.js; sessions/session-<id>: wwebjs-api
workspace_<ws>/session-<id>                        blazz, as <ws>/<id>/session-<id>
RemoteAuth-<id>, RemoteAuth, and each with .zip    RemoteAuth of whatsapp-web.js
userDataDir/<id>                                   wppconnect-server
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sessions.profiles.portable import TREES

Form = Literal["local_auth", "remote_auth", "remote_auth_zip", "user_data"]
_DEEP = 6
"""Folders below the path that are looked into."""
_NAMED = re.compile(r"(session|RemoteAuth)(?:-([-_A-Za-z0-9]+))?(\.zip)?")
_WORKSPACE = re.compile(r"workspace_(.+)")
_USER_DATA = "userDataDir"
_OURS = ".sluice-"
"""In the names of folders of a snapshot or a restore that is under way, or that a crash has left."""
_NOT_LOOKED_INTO = frozenset({"node_modules", ".git"})
"""Large, full of links, and nobody keeps logins there."""
_LINK = "is a symbolic link, which is not followed: name what it leads to"


@dataclass(frozen=True, slots=True)
class FoundLogin:
    path: Path
    form: Form
    session: str
    """Empty: its name does not say."""
    workspace: str | None = None


@dataclass(frozen=True, slots=True)
class PassedOver:
    """What was not looked into, and may hold logins."""

    path: Path
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """Each in the order of their paths."""

    logins: list[FoundLogin] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)


def logins_below(path: Path) -> Found:
    """`path` itself included, which may be a zip. A folder with a name of whatsapp-web.js is one of them even if there
    is no login in it. Raises OSError for `path` alone."""
    found = Found()
    if path.is_file():
        named = _NAMED.fullmatch(path.name)
        session = named[2] if named is not None and named[1] == "RemoteAuth" else None
        found.logins.append(FoundLogin(path, "remote_auth_zip", session or "", _workspace_of(path)))
        return found
    os.listdir(path)
    _look(path, _DEEP, found)
    return found


def _look(folder: Path, deep: int, found: Found) -> None:
    before = len(found.logins)
    try:
        login = _login_of(folder)
        if login is not None:
            found.logins.append(login)
            return
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name) if deep else []
    except OSError as error:
        found.passed_over.append(PassedOver(folder, f"cannot be read: {(error.strerror or str(error)).lower()}"))
        return
    for entry in entries:
        _enter(entry, deep, found)
    named = _NAMED.fullmatch(folder.name)
    if named is not None and named[2] and not named[3] and len(found.logins) == before:
        found.logins.append(_named(folder, named))  # it is said that there is no login in it


def _enter(entry: os.DirEntry[str], deep: int, found: Found) -> None:
    if _OURS in entry.name:
        return
    if entry.name in _NOT_LOOKED_INTO:
        return
    path = Path(entry.path)
    named = _NAMED.fullmatch(entry.name)
    zipped = named is not None and bool(named[3]) and named[1] == "RemoteAuth"
    if entry.is_symlink():
        if zipped or path.is_dir():
            found.passed_over.append(PassedOver(path, _LINK))
    elif entry.is_dir(follow_symlinks=False):
        _look(path, deep - 1, found)
    elif zipped and named is not None:
        found.logins.append(FoundLogin(path, "remote_auth_zip", named[2] or "", _workspace_of(path)))


def _login_of(folder: Path) -> FoundLogin | None:
    """It is a user-data directory with an IndexedDB. Raises OSError where that cannot be seen."""
    try:
        if not stat.S_ISDIR(os.stat(folder / TREES[0]).st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return None
    named = _NAMED.fullmatch(folder.name)
    if named is not None and not named[3]:
        return _named(folder, named)
    session = folder.name if folder.parent.name == _USER_DATA else ""
    return FoundLogin(folder, "user_data", session, _workspace_of(folder))


def _named(folder: Path, named: re.Match[str]) -> FoundLogin:
    form: Form = "local_auth" if named[1] == "session" else "remote_auth"
    return FoundLogin(folder, form, named[2] or "", _workspace_of(folder))


def _workspace_of(path: Path) -> str | None:
    """`workspace_<ws>/session-<id>`, or `<ws>/<id>/session-<id>`."""
    named = _WORKSPACE.fullmatch(path.parent.name)
    if named is not None:
        return named[1]
    if path.name == f"session-{path.parent.name}" and path.parent.parent.name.isdigit():
        return path.parent.parent.name
    return None
