"""What a person does to all that is kept: erases what nobody needs any more, and seals it anew with the first key.

Both go through the sessions by name, a few seconds at a time. Stopped anywhere, they go on where they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from sessions.profiles.generations import Profile
from sluice.console.actions.deployment import Deployment, Problem, invalid
from sluice.console.actions.vault_pages import moment_or_none, through, with_keys
from sluice.http.decode import Bounds

if TYPE_CHECKING:
    from sessions.profiles.vault import Vault

WEEK = 7 * 86400
HOUR = 3600
_YEARS = 10 * 365 * 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class RekeyProfiles:
    after: str | None = None
    """The `next` of the answer before."""
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """All that is sealed with an older key is written once more, so it must be confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneProfiles(RekeyProfiles):
    confirm: bool = False
    """Pruning erases for good, so it must be confirmed."""
    deleted_for: Annotated[int, Bounds(HOUR, _YEARS)] = WEEK
    """Seconds: logins that were deleted longer ago go."""
    last_good: bool = False
    """An older generation goes, too, that is kept as all newer ones have less than a quarter of its size: somebody has
    seen that this is right."""


@dataclass(frozen=True, slots=True)
class PrunedProfile:
    session: str
    deleted: datetime | None
    """When its login was deleted; null: it is not."""
    ended: bool
    """Nothing of it is left."""
    generations: int
    """That were kept, and are kept no more."""
    chunks: int
    """That were erased: those of these generations, and what was written and never counted."""
    size: int
    """Bytes that were freed."""
    problem: str | None
    """Why less was erased than could have been."""


@dataclass(frozen=True, slots=True)
class PrunedProfiles:
    profiles: tuple[PrunedProfile, ...]
    """Those with something to erase, or with a problem, by the names of their sessions."""
    looked_at: int
    """Sessions. As many as a few seconds allow."""
    ended: int
    """Of them: nothing of these is left."""
    generations: int
    """That are kept no more, of all of them."""
    size: int
    """Bytes that were freed."""
    next: str | None
    """Ask again with it as `after`; null: there are no more."""


@dataclass(frozen=True, slots=True)
class RekeyedProfile:
    session: str
    generations: int
    """That were sealed anew."""
    size: int
    """Bytes of profiles that were."""
    problem: str | None
    """Which generations still need the older key, and why."""


@dataclass(frozen=True, slots=True)
class RekeyedProfiles:
    profiles: tuple[RekeyedProfile, ...]
    """Those with something to seal anew, or with a problem, by the names of their sessions."""
    looked_at: int
    """Sessions. As many as a few seconds allow."""
    generations: int
    """That were sealed anew, of all of them."""
    size: int
    """Bytes of profiles that were."""
    next: str | None
    """Ask again with it as `after`; null: there are no more."""


async def prune(deployment: Deployment, request: PruneProfiles) -> PrunedProfiles | Problem:
    """Erase logins that were deleted long ago, generations beyond those that are to be kept, and what crashes left."""
    if not request.confirm and not request.dry_run:
        return invalid("pruning erases for good: set confirm to true, or look first with dry_run set to true")
    vault = with_keys(deployment)
    if isinstance(vault, Problem):
        return vault
    found = await through(vault, request.after, lambda profile: _prune(vault, profile, request))
    if isinstance(found, Problem):
        return found
    rows, go_on = [row for row in found[0] if row], found[1]
    sums = sum(row.ended for row in rows), sum(row.generations for row in rows), sum(row.size for row in rows)
    return PrunedProfiles(tuple(rows), len(found[0]), *sums, go_on)


async def rekey(deployment: Deployment, request: RekeyProfiles) -> RekeyedProfiles | Problem:
    """Seal with the first key what is sealed with an older one; whoever runs a session is not disturbed."""
    if not request.confirm and not request.dry_run:
        return invalid("set confirm to true, or look first with dry_run set to true")
    vault = with_keys(deployment)
    if isinstance(vault, Problem):
        return vault
    found = await through(vault, request.after, lambda profile: _rekey(vault, profile, request))
    if isinstance(found, Problem):
        return found
    rows, go_on = [row for row in found[0] if row], found[1]
    sums = sum(row.generations for row in rows), sum(row.size for row in rows)
    return RekeyedProfiles(tuple(rows), len(found[0]), *sums, go_on)


async def _prune(vault: Vault, profile: Profile, request: PruneProfiles) -> PrunedProfile | None:
    from sessions.profiles.prune import Pruned, prune

    session, dry_run = profile.session, request.dry_run
    done = await prune(
        vault, session, deleted_for=request.deleted_for, also_last_good=request.last_good, dry_run=dry_run
    )
    if done == Pruned():
        return None
    deleted, problem = moment_or_none(profile.deleted), "; ".join(done.problems) or None
    return PrunedProfile(session, deleted, done.sessions > 0, done.generations, done.chunks, done.size, problem)


async def _rekey(vault: Vault, profile: Profile, request: RekeyProfiles) -> RekeyedProfile | None:
    from sessions.profiles.rekey import Rekeyed, rekey

    done = await rekey(vault, profile.session, dry_run=request.dry_run)
    if done == Rekeyed():
        return None
    return RekeyedProfile(profile.session, done.generations, done.size, "; ".join(done.problems) or None)
