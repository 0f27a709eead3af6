"""Logins of other programs come into the vault whole, by stages; what is wrong is said, and the source only read."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sessions.profiles import migrated, zips
from sessions.profiles.contents import ContentsAway, InStore, Manifests
from sessions.profiles.generations import Generations
from sessions.profiles.manifest import Origin
from sessions.profiles.migration import Migration, Report, Undone, report, scratch
from sessions.profiles.migration_plan import Login, NotFound, Stage
from sessions.profiles.policies import VaultPolicy
from sessions.profiles.portable import portable_files
from sessions.profiles.summary import Waiting, look, probe_of
from sessions.profiles.taking import AlreadyRuns
from sessions.profiles.vault import NothingKept, Restored, Saved, Vault
from sessions.registry import Registry
from sluice.config.model import Secret
from sluice.store.client import Store
from tests.sessions.profiles.making import BLOBS, LEVELDB, SECRET, as_nobody, contents, manifest_record, profile

pytestmark = pytest.mark.anyio

HOST = socket.gethostname()
ALL = Stage()


class Runner:
    """A migration on a disk of its own, and the vault that it fills."""

    def __init__(self, vault: Vault, store: Store, disk: Path, folder: Path) -> None:
        self.vault, self.store, self.disk, self.folder = vault, store, disk, folder
        self.migration = Migration(vault, store, HOST, folder)

    async def plan(self, stage: Stage = ALL, path: Path | None = None) -> Report:
        return report(await self.migration.plan(path or self.disk, stage), dry_run=True)

    async def run(self, stage: Stage = ALL, path: Path | None = None) -> Report:
        planned = await self.migration.plan(path or self.disk, stage)
        return await self.migration.run(planned, stage, lambda done, total, session: None)

    async def undo(self, stage: Stage = ALL, *, dry_run: bool = False) -> Undone:
        return await self.migration.undo(self.disk, stage, dry_run=dry_run)

    async def restored(self, session: str) -> dict[str, bytes]:
        target = self.disk.parent / f"restored-{session}"
        found = await self.vault.restore(session, target)
        assert isinstance(found, Restored), found
        return contents(target)

    async def start(self, session: str, source: Path | None = None) -> int:
        """As a worker does; and it saves, if there is something to save."""
        fence = (await self.vault.generations.claim(session)).fence
        if source is not None:
            assert isinstance(await self.vault.save(session, fence, source, Origin()), Saved)
        return fence


@pytest.fixture
async def runner(store: Store, tmp_path: Path) -> AsyncIterator[Runner]:
    vault = Vault(Generations(store), Manifests(store), InStore(store), [SECRET])
    (tmp_path / "disk").mkdir()
    with scratch(tmp_path / "data") as folder:
        yield Runner(vault, store, tmp_path / "disk", folder)
        assert list(folder.iterdir()) == [], "no copy of a login is left behind"
    assert list((tmp_path / "data").iterdir()) == []


def login(folder: Path) -> dict[str, bytes]:
    return {file.name: (folder / file.name).read_bytes() for file in portable_files(folder)}


def as_it_is(folder: Path) -> dict[str, tuple[str, int, int, int]]:
    """Contents, modes, times and numbers of all that is there."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        known = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (content, known.st_mode, known.st_mtime_ns, known.st_ino)
    return found


def states(found: Report) -> dict[str, str]:
    return {it.session: it.state for it in found.logins}


def only(found: Report) -> Login:
    (one,) = found.logins
    return one


async def waiting(store: Store) -> tuple[Waiting, ...]:
    """What `status` tells of."""
    policy = VaultPolicy("store", (Secret(SECRET),))
    return (await look(policy, store, Registry(store, 60.0), probe_of(policy, store))).waiting


FORMS = [
    (".wwebjs_auth/session-a", "local_auth", None),
    ("sessions/workspace_7/session-a", "local_auth", "7"),
    ("sessions/7/a/session-a", "local_auth", "7"),
    (".wwebjs_auth/RemoteAuth-a", "remote_auth", None),
    ("userDataDir/a", "user_data", None),
]


@pytest.mark.parametrize(("name", "form", "workspace"), FORMS)
async def test_each_form_is_moved_whole(runner: Runner, name: str, form: str, workspace: str | None) -> None:
    source = profile(runner.disk / name)
    (source / "Last Version").write_text("156.0.8078.79")
    moved = only(await runner.run())
    assert (moved.session, moved.state, moved.form, moved.workspace) == ("a", "moved", form, workspace)
    assert (moved.generation, moved.backend, moved.browser) == (1, "leveldb", "156.0.8078.79")
    assert await runner.restored("a") == login(source)
    found = await runner.vault.generations.of("a")
    assert found is not None
    assert found.newest is not None
    assert (found.newest.browser, found.newest.backend) == ("156.0.8078.79", "leveldb")


async def test_a_zip_of_remote_auth_is_moved_whole(runner: Runner, tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    zips.write(source, runner.disk / "RemoteAuth-a.zip")
    moved = only(await runner.run())
    assert (moved.session, moved.state, moved.form, moved.generation) == ("a", "moved", "remote_auth_zip", 1)
    assert await runner.restored("a") == {
        name: content for name, content in login(source).items() if not name.startswith("Default/Cookies")
    }


async def test_a_record_that_a_killed_browser_has_begun_is_left_behind(runner: Runner) -> None:
    log = profile(runner.disk / "session-a") / LEVELDB / "000003.log"
    whole = manifest_record(b"a" * 100)
    log.write_bytes(whole + manifest_record(b"b" * 100)[:50])
    assert only(await runner.run()).state == "moved"
    assert (await runner.restored("a"))[f"{LEVELDB}/000003.log"] == whole
    assert len(log.read_bytes()) > len(whole)


async def test_the_backend_of_the_browser_is_noted(runner: Runner) -> None:
    database = runner.disk / "session-a" / "Default/IndexedDB/https_web.whatsapp.com_0/1.sqlite"
    database.parent.mkdir(parents=True)
    database.write_bytes(b"SQLite format 3\0")
    assert only(await runner.run()).backend == "sqlite"


async def test_the_source_is_never_changed(runner: Runner, tmp_path: Path) -> None:
    for n in range(3):
        profile(runner.disk / f"session-{n}", seed=n)
    zips.write(profile(tmp_path / "source"), runner.disk / "RemoteAuth-z.zip")
    before = as_it_is(runner.disk)
    assert (await runner.plan()).counts == {"ready": 4}
    assert (await runner.run()).counts == {"moved": 4}
    assert (await runner.run()).counts == {"kept": 4}
    assert all(it.state == "taken_back" for it in (await runner.undo()).logins)
    assert as_it_is(runner.disk) == before


async def test_a_source_that_cannot_be_written_is_enough(runner: Runner, short_folder: Path) -> None:
    source = profile(short_folder / "session-a")
    for path in [short_folder, *short_folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    planned = await runner.migration.plan(short_folder, ALL)
    runner.folder.chmod(0o777)
    for path in (runner.folder.parent, *runner.folder.parents):
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    with as_nobody(short_folder):
        with pytest.raises(PermissionError):
            (source / "x").write_bytes(b"")
        found = await runner.migration.run(planned, ALL, lambda done, total, session: None)
    assert only(found).state == "moved", found
    for path in [short_folder, *short_folder.rglob("*")]:
        path.chmod(0o755)


async def test_a_dry_run_writes_nothing(runner: Runner, store: Store) -> None:
    profile(runner.disk / "session-a")
    (runner.disk / "session-a" / "SingletonLock").symlink_to(f"{HOST}-{os.getpid()}")
    profile(runner.disk / "session-b")
    found = await runner.plan()
    assert (found.dry_run, states(found)) == (True, {"a": "waiting", "b": "ready"})
    assert await store.redis.keys("sl:{vault*") == []


async def test_stages_end_where_a_person_says(runner: Runner) -> None:
    for n in range(5):
        profile(runner.disk / f"session-{n}", size=1000, seed=n)
    assert states(await runner.run(Stage(only=["3"]))) == {"3": "moved"}
    found = await runner.run(Stage(batch=2))
    assert states(found) == {"0": "moved", "1": "moved", "2": "ready", "3": "kept", "4": "ready"}
    assert (await runner.run()).counts == {"kept": 3, "moved": 2}
    with pytest.raises(NotFound) as error:
        await runner.run(Stage(only=["3", "x"]))
    assert str(error.value) == f"there is no login of session x below {runner.disk}; there are: 0, 1, 2, 3, 4"


async def test_a_folder_without_any_login_is_said(runner: Runner) -> None:
    with pytest.raises(NotFound) as error:
        await runner.plan()
    where = "name the dataPath of whatsapp-web.js, or a folder above it"
    assert str(error.value) == f"there is no login below {runner.disk}: {where}"


# --- what a person has to decide


@pytest.mark.parametrize("name", ["session", "RemoteAuth", "RemoteAuth.zip", "profile"])
async def test_a_login_whose_name_says_no_session_needs_one(runner: Runner, tmp_path: Path, name: str) -> None:
    source = runner.disk / name
    if source.suffix:
        zips.write(profile(tmp_path / "source"), source)
    else:
        profile(source)
    refused = only(await runner.run())
    by = f"sluice sessions migrate {source} --as ID --yes --all"
    assert (refused.state, refused.detail) == ("refused", f"its name says no session: {by}")
    moved = only(await runner.run(Stage(name="a"), source))
    assert (moved.session, moved.state) == ("a", "moved")


async def test_an_id_that_no_session_can_have_is_refused(runner: Runner) -> None:
    source = profile(runner.disk / "userDataDir" / "{a} b")
    by = f"sluice sessions migrate '{source}' --as ID --yes --all"
    assert only(await runner.run()).detail == f"'{{a}} b' is no id of a session: {by}"


async def test_a_name_for_several_is_refused(runner: Runner) -> None:
    for n in range(2):
        profile(runner.disk / f"session-{n}", size=10)
    with pytest.raises(NotFound) as error:
        await runner.plan(Stage(name="x"))
    assert str(error.value) == (
        f"--as names one login, and there are 2 below {runner.disk}: name the folder of that one"
    )


async def test_one_id_in_two_workspaces_is_for_a_person_to_decide(runner: Runner) -> None:
    one = profile(runner.disk / "workspace_1" / "session-a", seed=1)
    two = profile(runner.disk / "workspace_2" / "session-a", seed=2)
    found = await runner.run()
    assert [(it.state, it.workspace) for it in found.logins] == [("refused", "1"), ("refused", "2")]
    assert found.logins[0].detail == (
        f"the same session is in {two}, and a session has one login: name the folder of one of them alone; where "
        f"this is another account that has the same id, sluice sessions migrate {one} --as ID --yes --all"
    )
    assert only(await runner.run(path=one)).state == "moved"
    assert only(await runner.run(path=two)).detail == (
        f"it was moved from {one} on {HOST} before: give this one another id with --as, or "
        f"sluice sessions migrate {two} --only a --replace --yes"
    )
    assert only(await runner.run(Stage(name="a2"), two)).state == "moved"
    assert (await runner.restored("a"), await runner.restored("a2")) == (login(one), login(two))


async def test_what_a_browser_runs_on_waits_and_goes_first_when_that_has_ended(runner: Runner) -> None:
    for name in ("a", "b"):
        profile(runner.disk / f"session-{name}")
    lock = runner.disk / "session-b" / "SingletonLock"
    lock.symlink_to(f"{HOST}-{os.getpid()}")
    found = await runner.run(Stage(batch=0))
    assert states(found) == {"a": "ready", "b": "waiting"}
    assert found.logins[1].detail == f"process {os.getpid()} runs on it: run this again when that has ended"
    assert (await migrated.entries(runner.store))["b"].waits
    assert [(one.session, one.source) for one in await waiting(runner.store)] == [("b", str(lock.parent))]
    lock.unlink()
    assert states(await runner.run(Stage(batch=1))) == {"b": "moved", "a": "ready"}
    assert await waiting(runner.store) == ()


async def test_a_lock_that_was_left_over_is_no_hindrance(runner: Runner) -> None:
    profile(runner.disk / "session-a")
    (runner.disk / "session-a" / "SingletonLock").symlink_to(f"{HOST}-{2**22 + 1}")
    assert only(await runner.run()).state == "moved"


async def test_a_lock_of_another_machine_is_for_a_person_to_judge(runner: Runner) -> None:
    profile(runner.disk / "session-a")
    (runner.disk / "session-a" / "SingletonLock").symlink_to("other-host-17")
    refused = only(await runner.run())
    why = "it was locked on other-host: stop the browser there, or remove SingletonLock if none runs"
    assert (refused.state, refused.detail) == ("refused", why)


async def test_the_zip_is_taken_while_its_browser_runs_and_the_folder_otherwise(runner: Runner) -> None:
    source = profile(runner.disk / "RemoteAuth-a", seed=2)
    zips.write(source, runner.disk / "RemoteAuth-a.zip")
    assert only(await runner.plan()).form == "remote_auth"
    (source / "SingletonLock").symlink_to(f"{HOST}-{os.getpid()}")
    moved = only(await runner.run())
    assert (moved.form, moved.state) == ("remote_auth_zip", "moved")


# --- what cannot be moved


def a_link(source: Path) -> str:
    (source / LEVELDB / "x").symlink_to("/etc/passwd")
    return f"{source / LEVELDB}/x is a symbolic link, which no browser makes; remove it"


def a_pipe(source: Path) -> str:
    os.mkfifo(source / LEVELDB / "x")
    return f"{source / LEVELDB}/x is no file, which no browser makes; remove it"


def too_large(source: Path) -> str:
    os.truncate(source / LEVELDB / "000005.ldb", 600 * 2**20)
    return f"the login in {source} has 600 MiB; 512 MiB are kept at most"


def no_login(source: Path) -> str:
    (source / "Default/IndexedDB").rename(source / "Default/x")
    return f"{source} has no Default/IndexedDB: no page has logged in there yet, or it is another folder"


def half_a_database(source: Path) -> str:
    (source / LEVELDB / "MANIFEST-000001").unlink()
    why = "which its CURRENT names: it was copied while its browser wrote it"
    return f"{LEVELDB} has no MANIFEST-000001, {why}"


@pytest.mark.parametrize("mistake", [a_link, a_pipe, too_large, no_login, half_a_database])
async def test_a_folder_that_cannot_be_moved_says_why_and_the_others_are(
    runner: Runner, mistake: Callable[[Path], str]
) -> None:
    message = mistake(profile(runner.disk / "session-a"))
    profile(runner.disk / "session-b")
    found = await runner.run()
    assert states(found) == {"a": "failed", "b": "moved"}
    assert found.logins[0].detail == message
    assert not found.is_well


async def test_a_file_that_cannot_be_read_says_so(runner: Runner, short_folder: Path) -> None:
    source = profile(short_folder / "session-a")
    assert only(await runner.plan(path=short_folder)).state == "ready"
    (source / BLOBS / "1").chmod(0)
    with as_nobody(short_folder):
        found = only(await runner.plan(path=short_folder))
    assert (found.state, found.detail) == ("failed", f"{source / BLOBS / '1'}: permission denied")


def _entry(path: Path, name: str, content: bytes = b"x") -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def traversal(path: Path) -> str:
    _entry(path, "Default/IndexedDB/../../../etc/x")
    return "'Default/IndexedDB/../../../etc/x' is no file of a login"


def bomb(path: Path) -> str:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for n in range(3):
            with archive.open(f"{LEVELDB}/{n}.ldb", "w", force_zip64=True) as entry:
                for _ in range(200):
                    entry.write(bytes(2**20))
    return "the zip would have 603 MiB unpacked; 512 MiB are taken at most"


def cut(path: Path) -> str:
    path.write_bytes(path.read_bytes()[:-100])
    return "the zip is cut or broken: file is not a zip file"


def a_flipped_bit(path: Path) -> str:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return "the zip is cut or broken: "


def no_login_in_a_zip(path: Path) -> str:
    path.unlink()
    _entry(path, "Default/Local Storage/leveldb/CURRENT")
    return "the zip has no Default/IndexedDB: no page had logged in when it was made"


@pytest.mark.parametrize("mistake", [traversal, bomb, cut, a_flipped_bit, no_login_in_a_zip])
async def test_a_zip_that_cannot_be_moved_says_why(
    runner: Runner, tmp_path: Path, mistake: Callable[[Path], str]
) -> None:
    path = runner.disk / "RemoteAuth-a.zip"
    zips.write(profile(tmp_path / "source"), path)
    message = mistake(path)
    failed = only(await runner.run())
    assert (failed.state, failed.detail[: len(message)]) == ("failed", message)
    assert await runner.vault.generations.of("a") is None


async def test_what_was_not_looked_into_is_said(runner: Runner, tmp_path: Path) -> None:
    profile(runner.disk / "session-a")
    (runner.disk / "other").symlink_to(tmp_path)
    found = await runner.run()
    why = "is a symbolic link, which is not followed: name what it leads to"
    assert (found.passed_over, found.is_well) == ((f"{runner.disk}/other {why}",), False)


# --- what the vault has already


async def test_a_login_that_was_moved_before_is_not_moved_again(runner: Runner) -> None:
    profile(runner.disk / "session-a")
    await runner.run()
    kept = only(await runner.run())
    assert (kept.state, kept.generation, kept.detail) == ("kept", 1, "it was moved before")


async def test_a_login_that_has_changed_since_is_moved_again(runner: Runner) -> None:
    source = profile(runner.disk / "session-a")
    await runner.run()
    (source / "Default/Cookies").write_bytes(b"other")
    moved = only(await runner.run())
    assert (moved.state, moved.generation) == ("moved", 2)
    assert await runner.restored("a") == login(source)


async def test_what_a_worker_has_started_from_the_vault_is_not_taken_from_it(runner: Runner) -> None:
    source = profile(runner.disk / "session-a")
    await runner.run()
    await runner.start("a", profile(runner.disk.parent / "worker", seed=9))
    (source / "Default/Cookies").write_bytes(b"other")
    kept = only(await runner.run())
    by_force = f"sluice sessions migrate {runner.disk} --only a --replace --yes"
    assert (kept.state, kept.generation) == ("kept", 1)
    assert kept.detail == (f"it was moved before, and started from the vault since; to take this folder's: {by_force}")
    moved = only(await runner.run(Stage(only=["a"], replace=True)))
    assert (moved.state, moved.generation) == ("moved", 3)
    assert await runner.restored("a") == login(source)


async def test_a_worker_that_runs_loses_its_fence_to_a_person_who_replaces(runner: Runner) -> None:
    worker = profile(runner.disk.parent / "worker", seed=9)
    fence = await runner.start("a", worker)
    profile(runner.disk / "session-a")
    assert only(await runner.run(Stage(only=["a"], replace=True))).state == "moved"
    assert await runner.vault.save("a", fence, worker, Origin()) == "stale"


async def test_another_login_in_the_vault_is_for_a_person_to_judge(runner: Runner, tmp_path: Path) -> None:
    profile(runner.disk / "session-a")
    by_force = f"sluice sessions migrate {runner.disk} --only a --replace --yes"
    await runner.start("a")
    assert only(await runner.run()).detail == (
        "a worker has started it from the vault before it was moved, and may show a QR code: stop it, then " + by_force
    )
    await runner.start("a", profile(tmp_path / "worker", seed=9))
    assert only(await runner.run()).detail == (
        f"the vault has generation 1 of it already; to take this one: {by_force}"
    )
    await runner.vault.generations.delete("a", None)
    refused = only(await runner.run())
    assert (refused.state, refused.detail) == (
        "refused",
        f"its login was deleted from the vault, by a logout or a person; to take this one: {by_force}",
    )


async def test_a_worker_that_starts_while_others_are_moved_keeps_its_session(runner: Runner, tmp_path: Path) -> None:
    for name in ("a", "b"):
        profile(runner.disk / f"session-{name}")
    planned = await runner.migration.plan(runner.disk, ALL)
    fence = await runner.start("b")
    found = await runner.migration.run(planned, ALL, lambda done, total, session: None)
    assert states(found) == {"a": "moved", "b": "refused"}
    assert found.logins[1].detail == (
        "a worker started it from the vault meanwhile: run this again, and see what is said then"
    )
    assert isinstance(await runner.vault.save("b", fence, profile(tmp_path / "worker"), Origin()), Saved)


async def test_a_browser_that_starts_while_its_login_is_read_makes_it_wait(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = profile(runner.disk / "session-a")
    planned = await runner.migration.plan(runner.disk, ALL)
    (source / "SingletonLock").symlink_to(f"{HOST}-{os.getpid()}")
    waiting = only(await runner.migration.run(planned, ALL, lambda done, total, session: None))
    assert (waiting.state, waiting.detail) == (
        "waiting",
        f"process {os.getpid()} began to run on it while it was read: run this again later",
    )
    (source / "SingletonLock").unlink()
    planned = await runner.migration.plan(runner.disk, ALL)
    (source / "Default/Cookies").write_bytes(b"other")
    waiting = only(await runner.migration.run(planned, ALL, lambda done, total, session: None))
    assert waiting.detail == f"{source} changed while it was read: stop what writes there, and run this again"
    assert await runner.vault.generations.of("a") is None


# --- crashes, and what is full


@pytest.mark.parametrize("step", range(12))
async def test_a_migration_that_ends_anywhere_is_finished_by_the_next_one(runner: Runner, step: int) -> None:
    for n in range(2):
        profile(runner.disk / f"session-{n}", seed=n)
    planned = await runner.migration.plan(runner.disk, ALL)
    running = asyncio.create_task(runner.migration.run(planned, ALL, lambda done, total, session: None))
    for _ in range(step * 3):
        await asyncio.sleep(0)
    await asyncio.sleep(step * 0.008)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert set((await runner.run()).counts) <= {"moved", "kept"}
    for n in range(2):
        assert await runner.restored(str(n)) == login(runner.disk / f"session-{n}")
    undone = await runner.undo()
    assert [it.state for it in undone.logins] == ["taken_back", "taken_back"]
    for n in range(2):
        assert await runner.vault.restore(str(n), runner.disk.parent / "none") == NothingKept(deleted=False)


class Failing(InStore):
    """A place that is away from some write on."""

    def __init__(self, store: Store, after: int) -> None:
        super().__init__(store)
        self._left = after

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise ContentsAway("the vault cannot be written: no such host")
        await super().put(session, of, name, sealed)


async def test_a_vault_that_is_away_stops_the_stage_and_the_next_one_goes_on(runner: Runner, store: Store) -> None:
    for name in ("a", "b", "c"):
        profile(runner.disk / f"session-{name}")
    vault = Vault(Generations(store), Manifests(store), Failing(store, 6), [SECRET])
    away = Migration(vault, store, HOST, runner.folder)
    found = await away.run(await away.plan(runner.disk, ALL), ALL, lambda done, total, session: None)
    assert states(found) == {"a": "moved", "b": "failed", "c": "ready"}
    assert found.stopped == (
        "the vault cannot be written: no such host; "
        "nothing of what was moved is lost: put that right, and run this again"
    )
    assert states(await runner.run()) == {"a": "kept", "b": "moved", "c": "moved"}


async def test_a_full_store_stops_the_stage(runner: Runner, store: Store) -> None:
    for name in ("a", "b"):
        profile(runner.disk / f"session-{name}")
    planned = await runner.migration.plan(runner.disk, ALL)
    used = int((await store.redis.info("memory"))["used_memory"])
    await store.redis.config_set("maxmemory", used + 500_000)
    try:
        found = await runner.migration.run(planned, ALL, lambda done, total, session: None)
    finally:
        await store.redis.config_set("maxmemory", 0)
    assert states(found) == {"a": "failed", "b": "ready"}
    assert found.stopped.startswith("the store refused: OOM command not allowed when used memory > 'maxmemory'")
    assert (await runner.run()).counts == {"moved": 2}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
async def test_a_full_disk_stops_the_stage(runner: Runner, short_folder: Path) -> None:
    for name in ("a", "b"):
        profile(runner.disk / f"session-{name}")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", short_folder], check=True)
    try:
        full = Migration(runner.vault, runner.store, HOST, short_folder)
        found = await full.run(await full.plan(runner.disk, ALL), ALL, lambda done, total, session: None)
        assert list(short_folder.iterdir()) == []
    finally:
        subprocess.run(["umount", short_folder], check=True)
    assert states(found) == {"a": "failed", "b": "ready"}
    assert found.stopped == (
        f"the disk of {short_folder} is full or read-only (no space left on device); "
        "nothing of what was moved is lost: put that right, and run this again"
    )


class Forgetful(InStore):
    """Gives back something else than was put there, once that was read back."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._reads = 0

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        found = await super().get(session, of, name)
        self._reads += 1
        return found if self._reads <= 4 else b"rotten"


async def test_what_cannot_be_restored_does_not_count_as_moved(runner: Runner, store: Store) -> None:
    profile(runner.disk / "session-a")
    vault = Vault(Generations(store), Manifests(store), Forgetful(store), [SECRET])
    rotten = Migration(vault, store, HOST, runner.folder)
    failed = only(await rotten.run(await rotten.plan(runner.disk, ALL), ALL, lambda done, total, session: None))
    assert failed.state == "failed"
    why = "it was saved and taken back, as it did not come back as it was read: no generation of session a can be"
    assert failed.detail.startswith(why), failed
    assert await runner.vault.generations.of("a") is None
    assert only(await runner.run()).state == "moved"


async def test_a_login_that_comes_back_otherwise_is_taken_back(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    profile(runner.disk / "session-a")
    restore = runner.vault.restore

    async def otherwise(session: str, folder: Path, known: object = None) -> object:
        found = await restore(session, folder, known)  # type: ignore[arg-type]
        (folder / "Default/Cookies").write_bytes(b"other")
        return found

    monkeypatch.setattr(runner.vault, "restore", otherwise)
    failed = only(await runner.run())
    why = "it was saved and taken back, as it did not come back as it was read: Default/Cookies differs"
    assert (failed.state, failed.detail) == ("failed", why)
    assert await runner.vault.generations.of("a") is None


def test_two_migrations_on_one_machine_do_not_meet(tmp_path: Path) -> None:
    with scratch(tmp_path) as folder:
        with pytest.raises(AlreadyRuns) as error, scratch(tmp_path):
            pass
        assert str(error.value) == f"another migration or export works in {folder}: wait until it has ended"


def test_copies_that_a_killed_run_has_left_are_removed(tmp_path: Path) -> None:
    profile(tmp_path / "migrating" / "copied")
    with scratch(tmp_path) as folder:
        assert list(folder.iterdir()) == []


# --- taking back


async def test_what_was_moved_is_taken_back_and_may_be_moved_again(runner: Runner, store: Store) -> None:
    profile(runner.disk / "session-a")
    await runner.run()
    (dry,) = (await runner.undo(dry_run=True)).logins
    assert (dry.state, dry.generations) == ("ready", (1,))
    (undone,) = (await runner.undo()).logins
    assert (undone.session, undone.state, undone.generations) == ("a", "taken_back", (1,))
    assert await store.redis.keys("sl:{vault:a}:*") == []
    assert await runner.vault.generations.of("a") is None
    with pytest.raises(NotFound) as error:
        await runner.undo()
    assert str(error.value) == f"nothing that is meant was moved from below {runner.disk} on this machine"
    assert only(await runner.run()).state == "moved"


async def test_what_was_saved_or_started_since_is_left(runner: Runner) -> None:
    for name in ("a", "b", "c"):
        profile(runner.disk / f"session-{name}")
    await runner.run()
    await runner.start("a", profile(runner.disk.parent / "worker", seed=9))
    await runner.start("b")
    undone = await runner.undo()
    assert [(it.session, it.state) for it in undone.logins] == [("a", "left"), ("b", "left"), ("c", "taken_back")]
    back = "sluice sessions export {} --as local-auth FOLDER writes it into a folder"
    assert undone.logins[0].detail == f"generation 2 was saved since; {back.format('a')}"
    assert undone.logins[1].detail == f"a worker has started it since; {back.format('b')}"
    assert not undone.is_well
    assert await runner.restored("b") == login(runner.disk / "session-b")


async def test_what_was_replaced_is_back_when_that_is_taken_back(runner: Runner, tmp_path: Path) -> None:
    worker = profile(tmp_path / "worker", seed=9)
    await runner.start("a", worker)
    profile(runner.disk / "session-a")
    assert only(await runner.run(Stage(only=["a"], replace=True))).state == "moved"
    (undone,) = (await runner.undo()).logins
    assert (undone.state, undone.generations) == ("taken_back", (2,))
    assert await runner.restored("a") == login(worker)


async def test_what_was_replaced_by_the_same_is_taken_back_too(runner: Runner) -> None:
    profile(runner.disk / "session-a")
    await runner.run()
    await runner.start("a")
    assert only(await runner.run(Stage(only=["a"], replace=True))).state == "moved"
    assert [it.state for it in (await runner.undo()).logins] == ["taken_back"]
    assert await runner.vault.generations.of("a") is None


async def test_taking_back_goes_in_stages(runner: Runner) -> None:
    for n in range(3):
        profile(runner.disk / f"session-{n}", size=10)
    await runner.run()
    assert [it.state for it in (await runner.undo(Stage(batch=1))).logins] == ["taken_back", "ready", "ready"]
    assert [it.session for it in (await runner.undo(Stage(only=["2"]))).logins] == ["2"]
    assert [it.session for it in (await runner.undo()).logins] == ["1"]


async def test_what_waits_has_nothing_to_take_back(runner: Runner) -> None:
    profile(runner.disk / "session-a")
    (runner.disk / "session-a" / "SingletonLock").symlink_to(f"{HOST}-{os.getpid()}")
    await runner.run()
    assert [it.state for it in (await runner.undo()).logins] == ["nothing"]
    assert await migrated.entries(runner.store) == {}
