"""Logins that are kept: listed, shown, and, by a person, deleted and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from sessions.profiles.errors import Broken, ContentsAway, WrongKey
from sessions.profiles.generations import Generation, Profile
from sessions.profiles.summary import is_late, may_be_late
from sluice.config.problems import quoted
from sluice.console.actions.deployment import Deployment, Problem, invalid, moment
from sluice.console.actions.vault_pages import (
    conflict,
    following,
    moment_or_none,
    no_key,
    unavailable,
    unknown_profile,
    vault_of,
)
from sluice.http.decode import Bounds

if TYPE_CHECKING:
    from sessions.profiles.vault import Vault

MAX_LISTED = 1000
"""Sessions on one page."""


@dataclass(frozen=True, slots=True)
class ListProfiles:
    limit: Annotated[int, Bounds(1, MAX_LISTED)] = 100
    after: str | None = None
    """The `next` of the page before."""


@dataclass(frozen=True, slots=True)
class ShowProfile:
    session: str


@dataclass(frozen=True, slots=True)
class DeleteProfile:
    session: str
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""
    confirm: bool = False
    """The session starts without its login then, so it must be confirmed."""


@dataclass(frozen=True, slots=True)
class UndeleteProfile:
    session: str
    dry_run: bool = False
    """Nothing is done; the answer says what would be."""


@dataclass(frozen=True, slots=True)
class KeptProfile:
    session: str
    generations: int
    newest: int | None
    """Its number; null, as the next five: no generation is kept."""
    made: datetime | None
    size: int | None
    """Bytes of the newest."""
    browser: str | None
    """Product and version; empty: whoever saved it did not say."""
    backend: str | None
    """How that browser keeps its IndexedDB: `leveldb` or `sqlite`; empty: nobody knows."""
    key: str | None
    """The id of the key that the newest is sealed with."""
    stored: int
    """Bytes that were written for all of its generations."""
    fence: int
    """Of its last start; whoever has an older one saves nothing more."""
    deleted: datetime | None
    """By a logout, or by a person; null: it is not."""
    late: bool
    """Its session is connected, and nobody has saved it for three times sessions.vault.every."""


@dataclass(frozen=True, slots=True)
class KeptProfiles:
    profiles: tuple[KeptProfile, ...]
    """By the names of their sessions."""
    key: str | None
    """The id of the key that seals what is saved now; null: it is not here."""
    next: str | None
    """Ask again with it as `after`; null: there are no more."""


@dataclass(frozen=True, slots=True)
class KeptGeneration:
    number: int
    made: datetime
    size: int
    """Bytes of the profile."""
    stored: int
    """Bytes that were written for it: what had not changed since the one before was not written again."""
    chunks: int
    browser: str
    backend: str
    key: str
    """The id of the key that it is sealed with."""
    fence: int
    """Of the start that saved it."""
    readable: bool
    """Its manifest can be opened, and no chunk is missing; whether each of them is true, `verify` finds out."""
    problem: str | None
    """Why it cannot be read."""


@dataclass(frozen=True, slots=True)
class ProfileDetails:
    session: str
    fence: int
    deleted: datetime | None
    """By a logout, or by a person; null: it is not."""
    late: bool
    """Its session is connected, and nobody has saved it for three times sessions.vault.every."""
    generations: tuple[KeptGeneration, ...]
    """Newest first."""


@dataclass(frozen=True, slots=True)
class DeletedProfile:
    deleted: bool
    generations: int
    """They stay until somebody prunes."""
    size: int
    """Bytes of the newest."""


@dataclass(frozen=True, slots=True)
class UndeletedProfile:
    undeleted: bool
    generation: int
    """The newest, by which the session starts again."""
    made: datetime


async def list_profiles(deployment: Deployment, request: ListProfiles) -> KeptProfiles | Problem:
    """Of which sessions logins are kept, a page at a time."""
    vault = vault_of(deployment)
    if isinstance(vault, Problem):
        return vault
    found = await following(vault, request.after, request.limit + 1)
    page = found[: request.limit]
    late = await _late(deployment, page)
    kept = tuple(_kept(one, late=one.session in late) for one in page)
    return KeptProfiles(kept, _key_of_now(deployment), page[-1].session if len(found) > len(page) else None)


async def show(deployment: Deployment, request: ShowProfile) -> ProfileDetails | Problem:
    """One login that is kept, with its generations."""
    found = await _known(deployment, request.session)
    if isinstance(found, Problem):
        return found
    vault, profile = found
    keyless = no_key(deployment)
    try:
        problems = [keyless or await _unreadable(vault, request.session, one.number) for one in profile.generations]
    except ContentsAway as error:
        return unavailable(str(error))
    generations = tuple(_generation(*pair) for pair in zip(profile.generations, problems, strict=True))
    late = bool(await _late(deployment, [profile]))
    return ProfileDetails(profile.session, profile.fence, moment_or_none(profile.deleted), late, generations)


async def delete(deployment: Deployment, request: DeleteProfile) -> DeletedProfile | Problem:
    """Have a session start without its login from now on; what is kept of it stays until somebody prunes."""
    found = await _known(deployment, request.session)
    if isinstance(found, Problem):
        return found
    vault, profile = found
    if profile.deleted is not None:
        since = f"{moment(profile.deleted):%Y-%m-%dT%H:%M:%SZ}"
        return conflict(
            f"the login of {quoted(request.session)} is deleted already, since {since}; "
            "`sluice vault undelete` takes that back"
        )
    if not request.confirm and not request.dry_run:
        return invalid("set confirm to true, or look first with dry_run set to true")
    deleted = not request.dry_run and await vault.generations.delete(request.session, None) is True
    return DeletedProfile(deleted, len(profile.generations), profile.newest.size if profile.newest else 0)


async def undelete(deployment: Deployment, request: UndeleteProfile) -> UndeletedProfile | Problem:
    """Take a deletion back, by a logout or by a person, as long as something is kept."""
    found = await _known(deployment, request.session)
    if isinstance(found, Problem):
        return found
    vault, profile = found
    if profile.deleted is None:
        return conflict(f"the login of {quoted(request.session)} is not deleted: there is nothing to take back")
    if profile.newest is None:
        return conflict(
            f"no generation of {quoted(request.session)} is left to go back to: link it again with a new QR code"
        )
    undeleted = not request.dry_run and await vault.generations.undelete(request.session)
    return UndeletedProfile(undeleted, profile.newest.number, moment(profile.newest.made))


async def _known(deployment: Deployment, session: str) -> tuple[Vault, Profile] | Problem:
    vault = vault_of(deployment)
    if isinstance(vault, Problem):
        return vault
    profile = await vault.generations.of(session)
    return unknown_profile(session) if profile is None else (vault, profile)


async def _late(deployment: Deployment, profiles: Sequence[Profile]) -> set[str]:
    """The sessions of those that should have been saved since."""
    policy, registry = deployment.policies.sessions.vault, deployment.registry
    if policy is None:
        return set()
    now = await registry.time() / 1000
    overdue = [one for one in profiles if may_be_late(one, policy, now)]
    return {one.session for one in overdue if is_late(one, await registry.session(one.session), policy, now)}


def _kept(profile: Profile, *, late: bool) -> KeptProfile:
    newest = profile.newest
    return KeptProfile(
        session=profile.session,
        generations=len(profile.generations),
        newest=newest.number if newest else None,
        made=moment(newest.made) if newest else None,
        size=newest.size if newest else None,
        browser=newest.browser if newest else None,
        backend=newest.backend if newest else None,
        key=newest.key if newest else None,
        stored=sum(one.stored for one in profile.generations),
        fence=profile.fence,
        deleted=moment_or_none(profile.deleted),
        late=late,
    )


def _generation(one: Generation, problem: str | None) -> KeptGeneration:
    return KeptGeneration(
        number=one.number,
        made=moment(one.made),
        size=one.size,
        stored=one.stored,
        chunks=one.chunks,
        browser=one.browser,
        backend=one.backend,
        key=one.key,
        fence=one.fence,
        readable=problem is None,
        problem=problem,
    )


async def _unreadable(vault: Vault, session: str, number: int) -> str | None:
    """Why not, without a look into its chunks."""
    try:
        await vault.look(session, number)
    except (Broken, WrongKey) as error:
        return str(error)
    return None


def _key_of_now(deployment: Deployment) -> str | None:
    from sessions.profiles.sealing import Seals

    policy = deployment.policies.sessions.vault
    return None if policy is None or not policy.secrets[0] else Seals(policy.secrets[:1], "").current
