"""Whether what is kept can be restored: each generation is read to its last byte, or restored into a scratch folder."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sessions.profiles.errors import ContentsAway, ProfileError, WrongKey
from sessions.profiles.generations import Generation, Profile
from sessions.profiles.portable import portable_files
from sluice.console.actions.deployment import Deployment, Problem, moment
from sluice.console.actions.vault_pages import moment_or_none, through, unavailable, unknown_profile, with_keys

if TYPE_CHECKING:
    from sessions.profiles.vault import Vault

_STALE = 3600.0
"""Seconds after which a scratch folder is one that a crash has left."""


@dataclass(frozen=True, slots=True)
class VerifyProfiles:
    session: str | None = None
    """Only this one."""
    after: str | None = None
    """The `next` of the answer before."""
    scratch: bool = False
    """Each generation is restored into a folder below `data`, too, which is removed afterwards."""


@dataclass(frozen=True, slots=True)
class VerifiedGeneration:
    number: int
    made: datetime
    size: int
    """Bytes of the profile."""
    problem: str | None
    """Why it cannot be restored; null: it can."""


@dataclass(frozen=True, slots=True)
class VerifiedProfile:
    session: str
    deleted: datetime | None
    generations: tuple[VerifiedGeneration, ...]
    """Newest first."""
    restores: int | None
    """The generation that a start would restore if the login is not deleted; null: none can be."""
    cure: str | None
    """What to do where a generation is broken; null: none is."""


@dataclass(frozen=True, slots=True)
class VerifiedProfiles:
    profiles: tuple[VerifiedProfile, ...]
    """By the names of their sessions. As many as a few seconds allow, at least one."""
    next: str | None
    """Ask again with it as `after`; null: there are no more."""


async def verify(deployment: Deployment, request: VerifyProfiles) -> VerifiedProfiles | Problem:
    """Read all that is kept of logins, and say what cannot be restored; a few seconds at a time."""
    vault = with_keys(deployment)
    if isinstance(vault, Problem):
        return vault
    try:
        async with _scratch(deployment.policies.data if request.scratch else None) as folder:
            return await _verify(vault, request, folder)
    except ContentsAway as error:
        return unavailable(str(error))
    except OSError as error:
        where = error.filename or deployment.policies.data
        return unavailable(f"{where} cannot be written ({(error.strerror or str(error)).lower()})")


async def _verify(vault: Vault, request: VerifyProfiles, scratch: Path | None) -> VerifiedProfiles | Problem:
    if request.session is not None:
        profile = await vault.generations.of(request.session)
        if profile is None:
            return unknown_profile(request.session)
        return VerifiedProfiles((await _checked(vault, profile, scratch),), None)
    found = await through(vault, request.after, lambda profile: _checked(vault, profile, scratch))
    return found if isinstance(found, Problem) else VerifiedProfiles(tuple(found[0]), found[1])


async def _checked(vault: Vault, profile: Profile, scratch: Path | None) -> VerifiedProfile:
    broken = {one.number: error for one in profile.generations if (error := await _error(vault, profile, one, scratch))}
    kept = profile.generations
    if broken:  # what was dropped while it was read is no fault
        now = await vault.generations.of(profile.session)
        numbers = {one.number for one in now.generations} if now else set()
        kept = tuple(one for one in kept if one.number in numbers or one.number not in broken)
    errors = [broken.get(one.number) for one in kept]
    restores = next((one.number for one, error in zip(kept, errors, strict=True) if error is None), None)
    return VerifiedProfile(
        profile.session,
        moment_or_none(profile.deleted),
        tuple(_verified(*pair) for pair in zip(kept, errors, strict=True)),
        restores,
        _cure(errors, restores),
    )


def _verified(one: Generation, error: ProfileError | None) -> VerifiedGeneration:
    return VerifiedGeneration(one.number, moment(one.made), one.size, None if error is None else str(error))


def _cure(errors: Sequence[ProfileError | None], restores: int | None) -> str | None:
    """What to do where one of a session's generations, newest first, is broken."""
    if not any(errors):
        return None
    if errors[0] is None:
        return "the newest is whole, and the next saves take the place of what is not"
    if restores is not None:
        return f"a start goes back to generation {restores}; the next save of the worker that runs it is whole again"
    if any(isinstance(error, WrongKey) for error in errors):
        return "put the key that it is sealed with behind the first one in sessions.vault.key"
    return "the next save of the worker that runs it is whole again; where none runs it, link it with a new QR code"


async def _error(vault: Vault, profile: Profile, one: Generation, scratch: Path | None) -> ProfileError | None:
    try:
        await vault.verify(profile.session, one.number)
        if scratch is not None:
            await _restored(vault, profile, one, scratch / "profile")
    except ContentsAway:
        raise
    except ProfileError as error:
        return error
    return None


async def _restored(vault: Vault, profile: Profile, one: Generation, folder: Path) -> None:
    await vault.restore(profile.session, folder, replace(profile, deleted=None, generations=(one,)))
    await asyncio.to_thread(portable_files, folder)
    await asyncio.to_thread(shutil.rmtree, folder)


@contextlib.asynccontextmanager
async def _scratch(data: Path | None) -> AsyncIterator[Path | None]:
    """A folder of our own, for our eyes only; one that a crash has left is removed before."""
    if data is None:
        yield None
        return
    folder = await asyncio.to_thread(_new_folder, data / "vault-scratch")
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _new_folder(below: Path) -> Path:
    below.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in below.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - _STALE:
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix="verify-", dir=below))
