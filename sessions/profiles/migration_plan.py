"""What becomes of each login that was found on a disk: decided before anything is done.

ready     it is moved, or would be
moved     it is in the vault, and what was restored from there is what was read here
kept      it was moved before, and nobody has written here since
waiting   its browser runs: it is moved by the next run after that has ended
refused   a person has to decide something first
failed    it cannot be read, or is none
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sessions.profiles.errors import ProfileError
from sessions.profiles.found import Form, FoundLogin, PassedOver, logins_below
from sessions.profiles.generations import Profile
from sessions.profiles.in_use import use_of
from sessions.profiles.migrated import CLAIMING, Entry
from sessions.profiles.portable import TREES
from sessions.profiles.taking import Looked, look

State = Literal["ready", "moved", "kept", "waiting", "refused", "failed"]
SESSION = re.compile(r"[-_A-Za-z0-9][-_.@A-Za-z0-9]{0,199}")
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """Which of the logins are meant."""

    only: Collection[str] = ()
    """Sessions; empty: all."""
    batch: int | None = None
    """At most so many that are ready; None: all of them."""
    replace: bool = False
    """Also where the vault has another login: that one becomes the generation before."""
    name: str = ""
    """The session of the only login there is; empty: what its name says."""


@dataclass(frozen=True, slots=True)
class Login:
    """One that was found, and what becomes of it."""

    session: str
    source: str
    form: Form
    workspace: str | None
    state: State
    detail: str = ""
    """For a person: why, and what to do."""
    size: int = 0
    """Bytes."""
    files: int = 0
    backend: str = ""
    """How its browser keeps IndexedDB: `leveldb` or `sqlite`."""
    browser: str = ""
    generation: int | None = None
    """That it has in the vault."""


@dataclass(frozen=True, slots=True)
class Planned:
    """`looked` is None where it could not be read."""

    login: Login
    found: FoundLogin
    looked: Looked | None = None
    fence: int = 0
    """The last one of its session in the vault; 0: it is not known there."""


@dataclass(frozen=True, slots=True)
class Plan:
    path: Path
    logins: list[Planned] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)


class NotFound(ProfileError):
    """There is no login of that session, or none at all."""


def plan(path: Path, stage: Stage, profiles: Mapping[str, Profile], entries: Mapping[str, Entry], host: str) -> Plan:
    """`path` is absolute. Those that have waited before come first. Raises NotFound, and OSError for `path` alone."""
    below = logins_below(path)
    logins = _meant(path, [replace(it, session=stage.name or it.session) for it in _without_pairs(below.logins)], stage)
    known = {it.session: _of(entries.get(it.session), it, host) for it in logins}
    planned = [_planned(path, it, logins, stage, profiles.get(it.session), entries, known[it.session]) for it in logins]
    planned.sort(key=lambda it: not ((entry := known[it.found.session]) and entry.waits))
    return Plan(path, planned, below.passed_over)


def _meant(path: Path, logins: list[FoundLogin], stage: Stage) -> list[FoundLogin]:
    if not logins:
        raise NotFound(f"there is no login below {path}: name the dataPath of whatsapp-web.js, or a folder above it")
    if stage.name and len(logins) > 1:
        raise NotFound(f"--as names one login, and there are {len(logins)} below {path}: name the folder of that one")
    named = sorted({it.session for it in logins if it.session})
    missing = sorted(set(stage.only) - set(named))
    if missing:
        listed = ", ".join(named[:_LISTED]) or "none whose name says an id"
        raise NotFound(f"there is no login of session {missing[0]} below {path}; there are: {listed}")
    return [it for it in logins if not stage.only or it.session in stage.only]


def _without_pairs(logins: Sequence[FoundLogin]) -> list[FoundLogin]:
    """RemoteAuth has a folder while it runs, and a zip beside it while it saves: the folder is the newer one, where no
    browser runs on it."""
    folders = {it.path for it in logins if it.form == "remote_auth"}
    zipped = {it.path.with_suffix("") for it in logins if it.form == "remote_auth_zip"} & folders
    by_zip = {path for path in zipped if not (path / TREES[0]).is_dir() or use_of(path).state in ("in_use", "foreign")}
    left_out = by_zip | {path.with_suffix(".zip") for path in zipped - by_zip}
    return [it for it in logins if it.path not in left_out]


def _of(entry: Entry | None, found: FoundLogin, host: str) -> Entry | None:
    """What is known of this very login."""
    here = str(found.path).removesuffix(".zip")
    return entry if entry and (entry.host, entry.source.removesuffix(".zip")) == (host, here) else None


def _planned(
    path: Path,
    found: FoundLogin,
    logins: Sequence[FoundLogin],
    stage: Stage,
    profile: Profile | None,
    entries: Mapping[str, Entry],
    entry: Entry | None,
) -> Planned:
    login = Login(found.session, str(found.path), found.form, found.workspace, "failed")
    command = f"sluice sessions migrate {shlex.quote(str(path))}"
    unnamed = _unnamed(found, logins)
    if unnamed:
        return Planned(replace(login, state="refused", detail=unnamed), found)
    try:
        looked = look(found)
    except (ProfileError, OSError) as error:
        return Planned(replace(login, detail=reason(error)), found)
    other = entries.get(found.session) if entry is None else None
    state, detail = decide(looked, profile, entry, other, stage, f"{command} --only {found.session} --replace --yes")
    about = replace(login, size=looked.size, files=looked.files, backend=looked.backend, browser=looked.browser)
    if state == "kept" and entry is not None:
        about = replace(about, generation=entry.generation)
    fence = profile.fence if profile else 0
    return Planned(replace(about, state=state, detail=detail), found, looked, fence)


def _unnamed(found: FoundLogin, logins: Sequence[FoundLogin]) -> str:
    alone = f"sluice sessions migrate {shlex.quote(str(found.path))} --as ID --yes --all"
    if not found.session:
        return f"its name says no session: {alone}"
    if not SESSION.fullmatch(found.session):
        return f"{found.session[:60]!r} is no id of a session: {alone}"
    others = [it.path for it in logins if it.session == found.session and it.path != found.path]
    if others:
        return (
            f"the same session is in {others[0]}, and a session has one login: name the folder of one of them alone; "
            f"where this is another account that has the same id, {alone}"
        )
    return ""


def decide(
    looked: Looked, profile: Profile | None, entry: Entry | None, other: Entry | None, stage: Stage, by_force: str
) -> tuple[State, str]:
    """State and detail. `entry` is of this very login, `other` of another one of the same session; `by_force` is the
    command that takes this login whatever the vault has."""
    if entry and entry.generation and profile and not stage.replace:
        if profile.fence > entry.fence:
            return "kept", f"it was moved before, and started from the vault since; to take this folder's: {by_force}"
        if entry.content == looked.content and profile.generations and profile.deleted is None:
            return "kept", "it was moved before"
    match looked.use.state:
        case "in_use":
            return "waiting", f"process {looked.use.pid} runs on it: run this again when that has ended"
        case "foreign":
            return "refused", looked.use.detail
    if stage.replace or profile is None or (entry and _is_ours(entry, profile)):
        return "ready", ""
    return _in_the_vault(profile, other, by_force)


def _is_ours(entry: Entry, profile: Profile) -> bool:
    """Nobody has started it since this migration wrote there, or was about to."""
    return entry.fence == profile.fence or (entry.fence == CLAIMING and not profile.generations)


def _in_the_vault(profile: Profile, other: Entry | None, by_force: str) -> tuple[State, str]:
    """It was not this migration that wrote there."""
    if profile.newest is None:
        if profile.deleted is not None:
            return "ready", ""
        why = "a worker has started it from the vault before it was moved, and may show a QR code: stop it, then"
        return "refused", f"{why} {by_force}"
    if profile.deleted is not None:
        return "refused", f"its login was deleted from the vault, by a logout or a person; to take this one: {by_force}"
    if other is not None and not other.waits:
        why = f"it was moved from {other.source} on {other.host} before: give this one another id with --as, or"
        return "refused", f"{why} {by_force}"
    return "refused", f"the vault has generation {profile.newest.number} of it already; to take this one: {by_force}"


def reason(error: Exception) -> str:
    """For a person."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror.lower()}" if error.filename else error.strerror.lower()
