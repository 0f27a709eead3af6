"""What is kept no more is erased: logins that were deleted long ago, generations beyond those that are to be kept, and
what was written and never counted.

Safe beside running saves at any time: whatever one of them writes lies under a number that is not settled, and what it
shares with a generation that goes meanwhile makes it begin again (`Kept.sweep`, `lua/commit.lua`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from sessions.profiles.generations import Profile
from sessions.profiles.kept import Swept
from sessions.profiles.vault import Vault

ABANDONED = 3600.0
"""Seconds since a generation was begun, after which it will not count any more: no save takes so long."""


@dataclass(frozen=True, slots=True)
class Pruned:
    sessions: int = 0
    """Those of which nothing is left, not even their names."""
    generations: int = 0
    chunks: int = 0
    size: int = 0
    """Bytes, those of manifests too."""
    problems: tuple[str, ...] = ()
    """Why of a session less was erased than could have been."""

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(
            self.sessions + other.sessions,
            self.generations + other.generations,
            self.chunks + other.chunks,
            self.size + other.size,
            self.problems + other.problems,
        )


async def prune(
    vault: Vault, session: str, *, deleted_for: float, also_last_good: bool = False, dry_run: bool = False
) -> Pruned:
    """Of one session. `deleted_for`: seconds that a deleted login is kept. `also_last_good`: a person has seen that it
    is right that the newer generations are so much smaller.

    Raises StoreAway, StoreRefused and ContentsAway; what was erased until then is, and the rest is found the next time.
    """
    profile = await vault.generations.of(session)
    if profile is None:
        return Pruned()
    gone = await _drop(vault, profile, deleted_for, also_last_good, dry_run)
    if dry_run:
        left = tuple(one for one in profile.generations if one.number not in gone)
        is_settled = profile.begun_at is None or profile.begun_at <= time.time() - ABANDONED
        profile = replace(profile, generations=left, settled=profile.begun if is_settled else profile.settled)
    else:
        await vault.generations.settle(session, begun_for=ABANDONED)
        profile = await vault.generations.of(session)
    swept = await vault.kept(session).sweep(profile, dry_run=dry_run)
    ended = profile is not None and await _forget(vault, profile, deleted_for, dry_run)
    return Pruned(int(ended), len(gone), swept.chunks, swept.size, _problems(session, swept))


async def _drop(vault: Vault, profile: Profile, deleted_for: float, also_last_good: bool, dry_run: bool) -> list[int]:
    session, numbers = profile.session, [one.number for one in profile.generations]
    if profile.deleted is not None:
        if dry_run:
            return numbers if _is_over(profile, deleted_for) else []
        return await vault.generations.drop(session, numbers, deleted_for=deleted_for)
    if not also_last_good:
        return await vault.generations.trim(session, vault.keep, dry_run=dry_run)
    return numbers[vault.keep :] if dry_run else await vault.generations.drop(session, numbers[vault.keep :])


async def _forget(vault: Vault, profile: Profile, deleted_for: float, dry_run: bool) -> bool:
    if profile.generations or not _is_over(profile, deleted_for):
        return False
    return profile.settled >= profile.begun if dry_run else await vault.generations.forget(profile.session)


def _is_over(profile: Profile, deleted_for: float) -> bool:
    return profile.deleted is not None and profile.deleted <= time.time() - deleted_for


def _problems(session: str, swept: Swept) -> tuple[str, ...]:
    return () if swept.reason is None else (f"session {session}: nothing was erased, as {swept.reason}",)
