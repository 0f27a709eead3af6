"""Logins of other programs on a disk: which folders and zips below a path are one, and whose.

session-<id>, session                              LocalAuth of whatsapp-web.js; sessions/session-<id>: wwebjs-api
workspace_<ws>/session-<id>                        blazz, as <ws>/<id>/session-<id>
RemoteAuth-<id>, RemoteAuth, and each with .zip    RemoteAuth of whatsapp-web.js
userDataDir/<id>                                   wppconnect-server
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sessions.profiles.portable import TREES

Form = Literal["local_auth", "remote_auth", "remote_auth_zip", "user_data"]
_DEEP = 6
"""Folders below the path that are looked into."""
_NAMED = re.compile(r"(session|RemoteAuth)(?:-([-_A-Za-z0-9]+))?(\.zip)?")
_WORKSPACE = re.compile(r"workspace_(.+)")
_USER_DATA = "userDataDir"


@dataclass(frozen=True, slots=True)
class FoundLogin:
    path: Path
    form: Form
    session: str
    """Empty: its name does not say."""
    workspace: str | None = None


def logins_below(path: Path) -> Iterator[FoundLogin]:
    """In the order of their paths, `path` itself included. Links are not followed. Raises OSError for `path` alone."""
    os.listdir(path)
    yield from _below(path, _DEEP)


def _below(folder: Path, deep: int) -> Iterator[FoundLogin]:
    found = _login_of(folder)
    if found is not None:
        yield found
        return
    if not deep:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _below(entry, deep - 1)
        elif entry.suffix == ".zip" and (named := _NAMED.fullmatch(entry.name)) and named[1] == "RemoteAuth":
            yield FoundLogin(entry, "remote_auth_zip", named[2] or "", _workspace_of(entry))


def _login_of(folder: Path) -> FoundLogin | None:
    """It is a user-data directory with an IndexedDB."""
    if not (folder / TREES[0]).is_dir():
        return None
    named = _NAMED.fullmatch(folder.name)
    if named is not None and not named[3]:
        form: Form = "local_auth" if named[1] == "session" else "remote_auth"
        return FoundLogin(folder, form, named[2] or "", _workspace_of(folder))
    session = folder.name if folder.parent.name == _USER_DATA else ""
    return FoundLogin(folder, "user_data", session, _workspace_of(folder))


def _workspace_of(path: Path) -> str | None:
    """`workspace_<ws>/session-<id>`, or `<ws>/<id>/session-<id>`."""
    named = _WORKSPACE.fullmatch(path.parent.name)
    if named is not None:
        return named[1]
    if path.name == f"session-{path.parent.name}" and path.parent.parent.name.isdigit():
        return path.parent.parent.name
    return None
