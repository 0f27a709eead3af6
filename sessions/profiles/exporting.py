"""Writes a login of the vault where whatsapp-web.js looks for it: for a rollback, or to take a session elsewhere."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sessions.profiles import zips
from sessions.profiles.errors import ProfileError
from sessions.profiles.generations import Generation, Profile
from sessions.profiles.taking import private_folder
from sessions.profiles.vault import Restored, Vault

Form = Literal["local-auth", "remote-auth"]
_CLIENT_ID = re.compile(r"[-_A-Za-z0-9]+")
_FOLDER = ".sluice-exporting"


@dataclass(frozen=True, slots=True)
class Exported:
    session: str
    target: str
    """The folder `session-<id>`, or the zip `RemoteAuth-<id>.zip`."""
    exported: bool
    """False: it would be."""
    generation: int
    made: float
    """Seconds since 1970."""
    size: int
    """Bytes of the login."""
    browser: str
    backend: str
    skipped: tuple[str, ...] = ()
    """Why newer generations were not taken."""


class NotExported(ProfileError):
    """Nothing was written."""


async def export(
    vault: Vault, session: str, form: Form, folder: Path, *, number: int | None = None, dry_run: bool = False
) -> Exported:
    """Into `folder`, the dataPath. Never overwrites. `number` None: the newest generation that can be read.

    Raises ProfileError, OSError, StoreAway and StoreRefused.
    """
    profile = await _profile(vault, session, number)
    generation = profile.generations[0]
    target = folder / (f"session-{session}" if form == "local-auth" else f"RemoteAuth-{session}.zip")
    if not _CLIENT_ID.fullmatch(session):
        raise NotExported(f"{session} is no clientId of whatsapp-web.js, which takes letters, digits, - and _ only")
    if _is_taken(target):
        raise _is_there(target)
    if dry_run:
        return _exported(session, target, generation, done=False)
    with private_folder(folder / _FOLDER) as inside:
        restored = await vault.restore(session, inside / "profile", profile)
        if not isinstance(restored, Restored) or (number and restored.generation.number != number):
            raise NotExported(f"session {session} was saved or deleted meanwhile: run this again")
        await asyncio.to_thread(_put, inside / "profile", target)
    return replace(_exported(session, target, restored.generation, done=True), skipped=restored.skipped)


async def _profile(vault: Vault, session: str, number: int | None) -> Profile:
    """With the generations that may be taken."""
    profile = await vault.generations.of(session)
    if profile is None or not profile.generations:
        raise NotExported(f"the vault has no login of session {session}: `sluice vault list` shows what it has")
    if profile.deleted is not None:
        raise NotExported(f"the login of session {session} was deleted: sluice vault undelete {session} takes it back")
    meant = tuple(it for it in profile.generations if number is None or it.number == number)
    if not meant:
        there = ", ".join(str(it.number) for it in profile.generations)
        raise NotExported(f"session {session} has no generation {number}; it has {there}")
    return replace(profile, generations=meant)


def _put(profile: Path, target: Path) -> None:
    """In one step, to a name that nobody has: a folder is not renamed onto one with something in it, and no link is
    made where a file is."""
    zipped = profile.with_name("zip")
    if target.suffix == ".zip":
        zips.write(profile, zipped)
        zipped.chmod(0o600)
        _to_disk(zipped)
    try:
        if target.suffix == ".zip":
            os.link(zipped, target)
        else:
            profile.rename(target)
    except OSError:
        if _is_taken(target):
            raise _is_there(target) from None
        raise
    _to_disk(target.parent)


def _to_disk(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _is_taken(target: Path) -> bool:
    """By a link that leads nowhere, too."""
    return os.path.lexists(target)


def _is_there(target: Path) -> NotExported:
    return NotExported(f"{target} is there already, and nothing is overwritten: move it away, or name another folder")


def _exported(session: str, target: Path, generation: Generation, *, done: bool) -> Exported:
    made = generation.made
    return Exported(
        session, str(target), done, generation.number, made, generation.size, generation.browser, generation.backend
    )
