"""What a person sees of the vault and decides in it, on a real store, and each mistake with its message."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.resources import Resources
from sessions.profiles.contents import Contents
from sessions.profiles.manifest import Origin
from sessions.profiles.opening import contents_of, open_vault
from sessions.profiles.policies import Folder, VaultPolicy
from sessions.profiles.vault import NothingKept, Restored, Saved, Vault
from sluice.config.model import Secret
from sluice.console.actions.deployment import Problem, ProblemKind
from sluice.console.actions.vault import (
    DeletedProfile,
    DeleteProfile,
    KeptProfiles,
    ListProfiles,
    ProfileDetails,
    ShowProfile,
    UndeletedProfile,
    UndeleteProfile,
    delete,
    list_profiles,
    show,
    undelete,
)
from sluice.console.actions.vault_checks import VerifiedProfile, VerifiedProfiles, VerifyProfiles, verify
from sluice.console.audit import Actor, path_of, perform
from sluice.console.operations import DELETE_PROFILE, SHOW_PROFILE
from tests.sessions.profiles.making import OLD, SECRET, profile

pytestmark = pytest.mark.anyio

ORIGIN = Origin("Chromium 156.0.8078.79", "leveldb", "host", "sluice")
ACTOR = Actor("me", "here", "command line")
NO_VAULT = Problem(
    ProblemKind.CONFLICT,
    "no vault is configured, so no logins are kept: write sessions.vault with a key into the policies (docs/vault.md)",
)
NO_KEY = "a key that sessions.vault.key names is not here: export the variable, or make the file, that it names"


def with_vault(parts: Resources, *keys: bytes, **more: object) -> Resources:
    policy = VaultPolicy(keys=tuple(map(Secret, keys or (SECRET,))), **more)  # type: ignore[arg-type]
    sessions = replace(parts.policies.sessions, vault=policy)
    return replace(parts, policies=replace(parts.policies, sessions=sessions))


def opened(parts: Resources) -> Vault:
    assert parts.policies.sessions.vault is not None
    return open_vault(parts.policies.sessions.vault, parts.store)


def contents(parts: Resources) -> Contents:
    assert parts.policies.sessions.vault is not None
    return contents_of(parts.policies.sessions.vault, parts.store)


@pytest.fixture
def parts(parts: Resources) -> Resources:
    return with_vault(parts)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return profile(tmp_path / "source", size=100_000)


async def save(parts: Resources, source: Path, session: str = "s1", fence: int | None = None) -> Saved:
    """With cookies of its own: each generation has a chunk that no other has."""
    (source / "Default/Cookies").write_bytes(os.urandom(500))
    vault = opened(parts)
    fence = (await vault.generations.claim(session)).fence if fence is None else fence
    saved = await vault.save(session, fence, source, ORIGIN)
    assert isinstance(saved, Saved)
    return saved


async def break_generation(parts: Resources, session: str, number: int) -> None:
    """One chunk that only it has is not what was written."""
    vault = opened(parts)
    manifest = await vault.verify(session, number)
    (own, *_) = [chunk for chunk in manifest.chunks if chunk.of == number]
    await contents(parts).put(session, number, own.name, b"broken")


def conflict(message: str) -> Problem:
    return Problem(ProblemKind.CONFLICT, message)


async def listed(parts: Resources, **request: object) -> KeptProfiles:
    found = await list_profiles(parts, ListProfiles(**request))  # type: ignore[arg-type]
    assert isinstance(found, KeptProfiles)
    return found


async def shown(parts: Resources, session: str = "s1") -> ProfileDetails:
    found = await show(parts, ShowProfile(session))
    assert isinstance(found, ProfileDetails)
    return found


async def verified(parts: Resources, **request: object) -> VerifiedProfiles:
    found = await verify(parts, VerifyProfiles(**request))  # type: ignore[arg-type]
    assert isinstance(found, VerifiedProfiles)
    return found


async def verified_one(parts: Resources, **request: object) -> VerifiedProfile:
    (one,) = (await verified(parts, session="s1", **request)).profiles
    return one


# --- list and show


async def test_sessions_are_listed_by_name_a_page_at_a_time(parts: Resources, source: Path) -> None:
    for session in ("s3", "s1", "s2"):
        await save(parts, source, session)
    await opened(parts).generations.claim("s0")
    first = await listed(parts, limit=3)
    assert [one.session for one in first.profiles] == ["s0", "s1", "s2"]
    assert first.next == "s2"
    second = await listed(parts, limit=3, after=first.next)
    assert ([one.session for one in second.profiles], second.next) == (["s3"], None)
    assert (await listed(parts, limit=4)).next is None


async def test_a_list_tells_of_the_newest_generation_and_of_a_deletion(parts: Resources, source: Path) -> None:
    fence = (await opened(parts).generations.claim("s1")).fence
    sizes = [await save(parts, source, fence=fence) for _ in range(2)]
    await opened(parts).generations.delete("s1", None)
    await opened(parts).generations.claim("s2")
    found = await listed(parts)
    one, empty = found.profiles
    assert (one.generations, one.newest, one.size) == (2, 2, sizes[1].size)
    assert one.stored == sum(saved.written for saved in sizes)
    assert (one.browser, one.backend) == ("Chromium 156.0.8078.79", "leveldb")
    assert one.key == found.key
    assert one.made is not None
    assert one.deleted is not None
    assert one.made.timestamp() == pytest.approx(time.time(), abs=60)
    assert (empty.generations, empty.newest, empty.made, empty.key, empty.deleted) == (0, None, None, None, None)


async def test_generations_are_shown_newest_first(parts: Resources, source: Path) -> None:
    fence = (await opened(parts).generations.claim("s1")).fence
    for _ in range(2):
        await save(parts, source, fence=fence)
    found = await shown(parts)
    assert (found.session, found.fence, found.deleted) == ("s1", fence, None)
    assert [(one.number, one.fence, one.readable, one.problem) for one in found.generations] == [
        (2, fence, True, None),
        (1, fence, True, None),
    ]
    assert found.generations[0].stored < found.generations[1].stored


async def test_what_cannot_be_read_is_shown_with_the_reason(parts: Resources, source: Path) -> None:
    await save(with_vault(parts, OLD), source)
    await save(parts, source)
    await save(parts, source)
    chunks = (await opened(parts).verify("s1", 2)).chunks
    await contents(parts).erase("s1", [(2, chunk.name) for chunk in chunks])
    problems = [one.problem for one in (await shown(parts)).generations]
    old = (await shown(with_vault(parts, OLD))).generations[2].key
    assert problems == [
        "1 of the 2 chunks of generation 3 are missing",
        "2 of the 2 chunks of generation 2 are missing",
        f"generation 1 is sealed with key {old}, which sessions.vault.key does not name: name the old key behind the "
        "new one",
    ]


async def test_a_look_without_the_key_shows_what_there_is(parts: Resources, source: Path) -> None:
    await save(parts, source)
    keyless = with_vault(parts, b"")
    (one,) = (await shown(keyless)).generations
    assert (one.number, one.readable, one.problem) == (1, False, NO_KEY)
    assert (await listed(keyless)).key is None
    assert await verify(keyless, VerifyProfiles()) == conflict(NO_KEY)


# --- delete and undelete


async def test_a_login_is_deleted_by_a_person_and_taken_back(parts: Resources, source: Path, tmp_path: Path) -> None:
    fence = (await opened(parts).generations.claim("s1")).fence
    saved = await save(parts, source, fence=fence)
    assert await delete(parts, DeleteProfile("s1")) == Problem(
        ProblemKind.INVALID, "set confirm to true, or look first with dry_run set to true"
    )
    assert await delete(parts, DeleteProfile("s1", dry_run=True)) == DeletedProfile(False, 1, saved.size)
    assert (await shown(parts)).deleted is None
    request = DeleteProfile("s1", confirm=True)
    assert await perform(DELETE_PROFILE, parts, request, ACTOR, print) == DeletedProfile(True, 1, saved.size)
    (line,) = path_of(parts.policies).read_text().splitlines()
    assert orjson.loads(line)["request"] == {"session": "s1", "confirm": True}
    assert await opened(parts).save("s1", fence, source, ORIGIN) == "stale"
    assert await opened(parts).restore("s1", tmp_path / "target") == NothingKept(deleted=True)
    made = (await shown(parts)).generations[0].made
    assert await undelete(parts, UndeleteProfile("s1", dry_run=True)) == UndeletedProfile(False, 1, made)
    assert (await shown(parts)).deleted is not None
    assert await undelete(parts, UndeleteProfile("s1")) == UndeletedProfile(True, 1, made)
    assert isinstance(await opened(parts).restore("s1", tmp_path / "target"), Restored)


async def test_what_cannot_be_deleted_or_taken_back(parts: Resources, source: Path) -> None:
    await save(parts, source)
    assert await undelete(parts, UndeleteProfile("s1")) == conflict(
        'the login of "s1" is not deleted: there is nothing to take back'
    )
    await delete(parts, DeleteProfile("s1", confirm=True))
    since = (await shown(parts)).deleted
    assert await delete(parts, DeleteProfile("s1", confirm=True)) == conflict(
        f'the login of "s1" is deleted already, since {since:%Y-%m-%dT%H:%M:%SZ}; `sluice vault undelete` takes that '
        "back"
    )
    await opened(parts).generations.drop("s1", [1])
    assert await undelete(parts, UndeleteProfile("s1")) == conflict(
        'no generation of "s1" is left to go back to: link it again with a new QR code'
    )


async def test_a_session_of_which_nothing_is_kept(parts: Resources) -> None:
    unknown = Problem(ProblemKind.NOT_FOUND, 'nothing is kept of session "s\\u001b"; `sluice vault list` shows what is')
    assert await show(parts, ShowProfile("s\x1b")) == unknown
    assert await delete(parts, DeleteProfile("s\x1b")) == unknown
    assert await undelete(parts, UndeleteProfile("s\x1b")) == unknown
    assert await verify(parts, VerifyProfiles("s\x1b")) == unknown


async def test_without_a_vault_each_says_how_to_have_one(parts: Resources) -> None:
    sessions = replace(parts.policies.sessions, vault=None)
    without = replace(parts, policies=replace(parts.policies, sessions=sessions))
    assert await list_profiles(without, ListProfiles()) == NO_VAULT
    assert await show(without, ShowProfile("s1")) == NO_VAULT
    assert await delete(without, DeleteProfile("s1")) == NO_VAULT
    assert await undelete(without, UndeleteProfile("s1")) == NO_VAULT
    assert await verify(without, VerifyProfiles()) == NO_VAULT


# --- verify


@pytest.mark.parametrize("scratch", [False, True])
async def test_all_generations_of_all_sessions_are_read(parts: Resources, source: Path, scratch: bool) -> None:
    for session in ("s2", "s1", "s2"):
        await save(parts, source, session)
    found = await verified(parts, scratch=scratch)
    assert found.next is None
    assert [(one.session, one.restores, one.cure) for one in found.profiles] == [("s1", 1, None), ("s2", 2, None)]
    assert [[it.number for it in one.generations] for one in found.profiles] == [[1], [2, 1]]
    if scratch:
        assert list((parts.policies.data / "vault-scratch").iterdir()) == []


async def test_it_goes_on_behind_the_session_that_the_answer_names(
    parts: Resources, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await save(parts, source, f"s{number}")
    monkeypatch.setattr("sluice.console.actions.vault_checks._SECONDS", 0.0)
    seen, after = list[str](), ""
    for _ in range(3):
        page = await verified(parts, after=after)
        (one,) = page.profiles
        seen, after = [*seen, one.session], page.next or ""
    assert (seen, after) == (["s0", "s1", "s2"], "")


async def test_a_broken_generation_is_named_with_what_to_do(parts: Resources, source: Path) -> None:
    fence = (await opened(parts).generations.claim("s1")).fence
    for _ in range(3):
        await save(parts, source, fence=fence)
    await break_generation(parts, "s1", 2)
    one = await verified_one(parts)
    assert one.restores == 3
    assert one.cure == "the newest is whole, and the next saves take the place of what is not"
    (wrong,) = [it for it in one.generations if it.problem]
    assert wrong.number == 2
    assert wrong.problem is not None
    assert wrong.problem.endswith("is cut, or was not written by Sluice")
    await break_generation(parts, "s1", 3)
    one = await verified_one(parts, scratch=True)
    assert one.restores == 1
    assert one.cure == "a start goes back to generation 1; the next save of the worker that runs it is whole again"
    await break_generation(parts, "s1", 1)
    one = await verified_one(parts)
    assert one.restores is None
    assert one.cure == (
        "the next save of the worker that runs it is whole again; where none runs it, link it with a new QR code"
    )


async def test_a_key_that_is_not_named_any_more_is_asked_for(parts: Resources, source: Path) -> None:
    await save(with_vault(parts, OLD), source)
    one = await verified_one(parts)
    assert (one.restores, one.cure) == (
        None,
        "put the key that it is sealed with behind the first one in sessions.vault.key",
    )
    assert (await verified_one(with_vault(parts, SECRET, OLD))).cure is None


async def test_what_was_dropped_while_it_was_read_is_no_fault(parts: Resources, source: Path) -> None:
    fence = (await opened(parts).generations.claim("s1")).fence
    await save(parts, source, fence=fence)
    stop = asyncio.Event()

    async def saves() -> None:
        while not stop.is_set():
            await save(parts, source, fence=fence)

    saving = asyncio.create_task(saves())
    try:
        for _ in range(30):
            assert (await verified_one(parts)).cure is None
    finally:
        stop.set()
        await saving


async def test_a_folder_that_is_not_there_is_said(parts: Resources, tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    folder.mkdir()
    there = with_vault(parts, place=Folder(folder))
    await save(there, profile(tmp_path / "source"))
    folder.rename(tmp_path / "elsewhere")
    away = Problem(
        ProblemKind.UNAVAILABLE,
        f"the vault's folder {folder} is not there: make it (mkdir -m 700 {folder}), or mount it",
    )
    assert await verify(there, VerifyProfiles()) == away
    assert await perform(SHOW_PROFILE, there, ShowProfile("s1"), ACTOR, print) == away


async def test_a_scratch_folder_that_cannot_be_made_is_said(parts: Resources, source: Path) -> None:
    await save(parts, source)
    parts.policies.data.mkdir(parents=True, exist_ok=True)
    scratch = parts.policies.data / "vault-scratch"
    scratch.write_text("")
    found = await verify(parts, VerifyProfiles(scratch=True))
    assert found == Problem(ProblemKind.UNAVAILABLE, f"{scratch} cannot be written (file exists)")


async def test_what_a_crash_left_of_a_scratch_restore_is_removed(parts: Resources, source: Path) -> None:
    await save(parts, source)
    left, at_work = (parts.policies.data / "vault-scratch" / name for name in ("verify-old", "verify-new"))
    for folder in (left, at_work):
        (folder / "profile").mkdir(parents=True)
    os.utime(left, (time.time() - 7200,) * 2)
    await verified(parts, scratch=True)
    assert list((parts.policies.data / "vault-scratch").iterdir()) == [at_work]
