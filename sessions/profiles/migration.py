"""Moves logins of other programs into the vault, stage by stage, and takes back what it has moved.

    look ─▶ private copy ─▶ source still the same? ─▶ entry with the fence ─▶ save ─▶ restore ─▶ same files? ─▶ entry

The source is only read. Nobody is stopped: what a browser runs on waits, and a worker that has started a session from
the vault has a later fence, against which nothing is written. A crash anywhere is made up for by the next run.
"""

from __future__ import annotations

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sessions.profiles import migrated
from sessions.profiles.contents import ContentsAway
from sessions.profiles.errors import Broken, ProfileError
from sessions.profiles.generations import Generation, Profile
from sessions.profiles.leveldb import check_databases, trim_logs
from sessions.profiles.manifest import Origin
from sessions.profiles.migrated import CLAIMING, Entry
from sessions.profiles.migration_plan import Login, NotFound, Plan, Planned, Stage, plan, reason
from sessions.profiles.packing import ChangedMeanwhile
from sessions.profiles.portable import backend_of
from sessions.profiles.taking import difference, private_folder, remove, take
from sessions.profiles.vault import NoneReadable, Restored, Vault
from sluice import __version__
from sluice.config import data_folder
from sluice.store.client import Store, StoreAway, StoreRefused

_FOLDER = "migrating"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Of the disk with our copies: every login after this one would fail as well."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a stage has done, or would do."""

    path: str
    dry_run: bool
    logins: tuple[Login, ...]
    passed_over: tuple[str, ...]
    """What was not looked into, and why."""
    counts: Mapping[str, int]
    """State -> how many."""
    stopped: str = ""
    """Why it ended before the end of the stage; empty: it did not."""

    @property
    def is_well(self) -> bool:
        """Nothing waits for a person."""
        return not (self.stopped or self.passed_over or {"refused", "failed"} & self.counts.keys())


@dataclass(frozen=True, slots=True)
class TakenBack:
    session: str
    source: str
    state: Literal["ready", "taken_back", "left", "nothing"]
    """`nothing`: it was written nowhere, such as one that waits."""
    generations: tuple[int, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Undone:
    path: str
    dry_run: bool
    logins: tuple[TakenBack, ...]
    stopped: str = ""

    @property
    def is_well(self) -> bool:
        return not self.stopped and all(it.state != "left" for it in self.logins)


Tell = Callable[[int, int, str], None]
"""How many are done, of how many, and the session that is next."""


class Migration:
    """`host`: the name of this machine. `folder`: for copies, nobody else's, as `scratch` makes it."""

    def __init__(self, vault: Vault, store: Store, host: str, folder: Path) -> None:
        self._vault = vault
        self._store = store
        self._host = host
        self._folder = folder

    async def plan(self, path: Path, stage: Stage) -> Plan:
        """Raises NotFound, OSError for `path`, StoreAway and StoreRefused."""
        profiles: dict[str, Profile] = {}
        go_on, profiles_of_page = await self._vault.generations.page()
        while True:
            profiles.update((it.session, it) for it in profiles_of_page)
            if go_on == "0":
                break
            go_on, profiles_of_page = await self._vault.generations.page(go_on)
        return plan(path, stage, profiles, await migrated.entries(self._store), self._host)

    async def run(self, planned: Plan, stage: Stage, tell: Tell) -> Report:
        """One after the other, each of which is whole before the next one begins."""
        done: dict[int, Login] = {}
        stopped = ""
        ready = [i for i, it in enumerate(planned.logins) if it.login.state == "ready"][: stage.batch]
        await self._note_waiting(planned)
        for count, i in enumerate(ready):
            one = planned.logins[i]
            tell(count, len(ready), one.login.session)
            try:
                done[i] = await self._move(one, stage)
            except (StoreAway, StoreRefused, ContentsAway, OSError) as error:
                stopped = self._stops(error)
                done[i] = replace(one.login, state="failed", detail=stopped or reason(error))
                if stopped:
                    break
            except ProfileError as error:
                state: Literal["waiting", "failed"] = "waiting" if isinstance(error, ChangedMeanwhile) else "failed"
                done[i] = replace(one.login, state=state, detail=str(error))
        tell(len(done), len(ready), "")
        return report(planned, dry_run=False, stopped=stopped, done=done)

    async def undo(self, path: Path, stage: Stage, *, dry_run: bool) -> Undone:
        """Raises NotFound, StoreAway and StoreRefused."""
        entries = [it for it in (await migrated.entries(self._store)).values() if self._is_meant(it, path, stage)]
        if not entries:
            raise NotFound(f"nothing that is meant was moved from below {path} on this machine")
        done: list[TakenBack] = []
        for entry in sorted(entries, key=lambda it: it.source):
            enough = sum(it.state == "taken_back" for it in done) == stage.batch
            try:
                done.append(await self._take_back(entry, dry_run=dry_run or enough))
            except (StoreAway, StoreRefused, ContentsAway) as error:
                return Undone(str(path), dry_run, tuple(done), self._stops(error))
        return Undone(str(path), dry_run, tuple(done))

    def _is_meant(self, entry: Entry, path: Path, stage: Stage) -> bool:
        below = Path(entry.source) == path or path in Path(entry.source).parents
        return below and entry.host == self._host and (not stage.only or entry.session in stage.only)

    def _stops(self, error: Exception) -> str:
        """Empty: it is a matter of this one login."""
        again = "nothing of what was moved is lost: put that right, and run this again"
        if isinstance(error, StoreRefused):
            return f"the store refused: {error}; {again}"
        if isinstance(error, OSError) and error.errno not in _FULL:
            return ""
        if isinstance(error, OSError):
            return f"the disk of {self._folder} is full or read-only ({reason(error)}); {again}"
        return f"{error}; {again}"

    async def _note_waiting(self, planned: Plan) -> None:
        known = await migrated.entries(self._store)
        for it in planned.logins:
            if it.login.state == "waiting" and it.login.session not in known:
                entry = Entry(it.login.session, it.login.source, self._host, time.time())
                await migrated.note(self._store, entry)

    async def _move(self, one: Planned, stage: Stage) -> Login:
        copied, restored = self._folder / "copied", self._folder / "restored"
        try:
            assert one.looked is not None
            take(one.found, one.looked, copied)
            check_databases(copied)
            trim_logs(copied)
            entry = await self._claimed(one, stage)
            if entry is None:
                return replace(one.login, state="refused", detail=_STARTED)
            backend = backend_of(copied)
            origin = Origin(one.looked.browser, backend, self._host, f"sluice {__version__} migrate")
            saved = await self._vault.save(entry.session, entry.fence, copied, origin)
            if isinstance(saved, str):
                return replace(one.login, state="refused", detail=_STARTED)
            try:
                await self._verify(entry, saved.generation, copied, restored)
            except (Broken, NoneReadable) as error:
                await self._take_back(entry, dry_run=False)
                raise Broken(f"it was saved and taken back, as it did not come back as it was read: {error}") from error
            await migrated.note(self._store, replace(entry, generation=saved.generation))
            return replace(one.login, state="moved", generation=saved.generation, backend=backend)
        finally:
            remove(copied)
            remove(restored)

    async def _verify(self, entry: Entry, number: int, copied: Path, restored: Path) -> None:
        """That generation, restored, is what was read. Raises ProfileError, OSError, StoreAway and StoreRefused."""
        profile = await self._vault.generations.of(entry.session)
        only = tuple(it for it in profile.generations if it.number == number) if profile else ()
        if profile is None or not only:
            raise Broken("somebody deleted it meanwhile")
        found = await self._vault.restore(entry.session, restored, replace(profile, generations=only))
        if not isinstance(found, Restored) or found.generation.number != number:
            raise Broken("somebody deleted it, or saved another one meanwhile")
        name = difference(copied, restored)
        if name is not None:
            raise Broken(f"{name} differs")

    async def _claimed(self, one: Planned, stage: Stage) -> Entry | None:
        """Under which fence it is saved; that of a run before, where nobody has started it since. None: somebody has,
        since it was planned."""
        session, content = one.found.session, one.looked.content if one.looked else ""
        profile = await self._vault.generations.of(session)
        if profile is not None and profile.fence != one.fence:
            return None
        known = (await migrated.entries(self._store)).get(session)
        if known is not None and not stage.replace and profile is not None and known.fence == profile.fence:
            return replace(known, content=content)
        entry = Entry(session, str(one.found.path), self._host, time.time(), CLAIMING, content=content)
        await migrated.note(self._store, entry)
        entry = replace(entry, fence=(await self._vault.generations.claim(session)).fence)
        await migrated.note(self._store, entry)
        return entry

    async def _take_back(self, entry: Entry, *, dry_run: bool) -> TakenBack:
        """The script that deletes refuses where there is a later fence: nobody who has started since loses anything."""
        session = entry.session
        profile = await self._vault.generations.of(session)
        ours = tuple(it.number for it in profile.generations if _is_of(it, entry)) if profile else ()
        about = TakenBack(session, entry.source, "ready" if ours else "nothing", ours)
        if profile is not None and ours and profile.fence > entry.fence:
            return _left(about, profile, entry)
        if dry_run:
            return about
        if profile is not None and profile.fence == entry.fence:
            if await self._vault.generations.delete(session, entry.fence) == "stale":
                return _left(about, profile, entry)
            await self._vault.generations.drop(session, ours)
            await self._vault.generations.settle(session)
            await self._vault.kept(session).sweep(await self._vault.generations.of(session))
            if not await self._vault.generations.forget(session):
                await self._vault.generations.undelete(session)  # what was there before it was replaced
        await migrated.strike(self._store, session)
        return replace(about, state="taken_back" if ours else "nothing")


_STARTED = "a worker started it from the vault meanwhile: run this again, and see what is said then"


def _is_of(generation: Generation, entry: Entry) -> bool:
    return generation.fence == entry.fence or generation.number == entry.generation


def _left(about: TakenBack, profile: Profile, entry: Entry) -> TakenBack:
    newest = profile.newest
    saved = newest is not None and newest.fence > entry.fence
    why = f"generation {newest.number} was saved since" if newest and saved else "a worker has started it since"
    back = f"sluice sessions export {entry.session} --as local-auth FOLDER writes it into a folder"
    return replace(about, state="left", detail=f"{why}; {back}")


def report(planned: Plan, *, dry_run: bool, stopped: str = "", done: Mapping[int, Login] | None = None) -> Report:
    logins = tuple((done or {}).get(i, it.login) for i, it in enumerate(planned.logins))
    passed_over = tuple(f"{it.path} {it.why}" for it in planned.passed_over)
    counts: dict[str, int] = dict(sorted(Counter(it.state for it in logins).items()))
    return Report(str(planned.path), dry_run, logins, passed_over, counts, stopped)


@contextmanager
def scratch(data: Path) -> Iterator[Path]:
    """A folder for copies of logins, in the data folder. Raises AlreadyRuns, DataFolderError and OSError."""
    data_folder.make(data, _FOLDER)
    with private_folder(data / _FOLDER) as folder:
        yield folder
