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
from sluice.console.actions.vault_upkeep import (
    PrunedProfiles,
    PruneProfiles,
    RekeyedProfiles,
    RekeyProfiles,
    prune,
    rekey,
)
from sluice.console.audit import Actor, path_of, perform
from sluice.console.operations import DELETE_PROFILE, PRUNE_PROFILES, SHOW_PROFILE
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
    monkeypatch.setattr("sluice.console.actions.vault_pages._SECONDS", 0.0)
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


# --- prune and rekey


async def pruned(parts: Resources, **request: object) -> PrunedProfiles:
    found = await prune(parts, PruneProfiles(**request))  # type: ignore[arg-type]
    assert isinstance(found, PrunedProfiles)
    return found


async def rekeyed(parts: Resources, **request: object) -> RekeyedProfiles:
    found = await rekey(parts, RekeyProfiles(**request))  # type: ignore[arg-type]
    assert isinstance(found, RekeyedProfiles)
    return found


async def deleted_ago(parts: Resources, session: str, seconds: float) -> None:
    """Its login was deleted so long ago, by the record in the store: one that is older lies there."""
    await opened(parts).generations.delete(session, None)
    await age(parts, session, seconds)


async def age(parts: Resources, session: str, seconds: float) -> None:
    """As if all that happened to it had happened so long before."""
    await parts.store.commands(("EVAL", _AGE, 1, "sl:{vault}:profiles", session, int(seconds * 1000)))


_AGE = """
local values = cmsgpack.unpack(redis.call('HGET', KEYS[1], ARGV[1]))
for _, i in ipairs({2, 6}) do if values[i] > 0 then values[i] = values[i] - tonumber(ARGV[2]) end end
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(values))
return 1
"""
"""Of when it was deleted, and when its last generation was begun."""


async def test_only_what_was_deleted_long_enough_ago_is_erased(parts: Resources, source: Path) -> None:
    for session in ("s1", "s2", "s3"):
        await save(parts, source, session)
    await deleted_ago(parts, "s1", 8 * 86400)
    await deleted_ago(parts, "s2", 2 * 86400)
    plan = await pruned(parts, dry_run=True)
    (one,) = plan.profiles
    assert (one.session, one.ended, one.generations, one.problem) == ("s1", True, 1, None)
    assert (plan.looked_at, plan.ended, plan.generations, plan.next) == (3, 1, 1, None)
    assert plan.size == one.size > 300_000
    assert [it.session for it in (await listed(parts)).profiles] == ["s1", "s2", "s3"]
    request = PruneProfiles(confirm=True)
    assert await perform(PRUNE_PROFILES, parts, request, ACTOR, print) == plan
    (line,) = path_of(parts.policies).read_text().splitlines()
    result = {"looked_at": 3, "ended": 1, "generations": 1, "size": plan.size}
    assert orjson.loads(line)["result"] == result
    assert [it.session for it in (await listed(parts)).profiles] == ["s2", "s3"]
    assert (await pruned(parts, dry_run=True)).profiles == ()
    assert [one.session for one in (await pruned(parts, confirm=True, deleted_for=86400)).profiles] == ["s2"]


async def test_generations_beyond_a_number_that_was_lowered_are_erased(parts: Resources, source: Path) -> None:
    fence = (await opened(parts).generations.claim("s1")).fence
    for _ in range(3):
        await save(parts, source, fence=fence)
    fewer = with_vault(parts, generations=1)
    assert (await pruned(fewer, confirm=True)).generations == 2
    assert [one.number for one in (await shown(parts)).generations] == [3]
    assert (await verified_one(parts)).cure is None


async def test_what_a_save_left_that_never_ended_is_erased_after_an_hour(parts: Resources, source: Path) -> None:
    fence = (await opened(parts).generations.claim("s1")).fence
    saved = await save(parts, source, fence=fence)
    number = await opened(parts).generations.begin("s1", fence)
    assert isinstance(number, int)
    await contents(parts).put("s1", number, "a" * 32, b"half a generation")
    assert (await pruned(parts, confirm=True)).profiles == ()
    await age(parts, "s1", 2 * 3600)
    (one,) = (await pruned(parts, confirm=True)).profiles
    assert (one.ended, one.generations, one.chunks, one.size) == (False, 0, 1, 17)
    assert [it.number for it in (await shown(parts)).generations] == [saved.generation]


async def test_where_a_manifest_cannot_be_read_nothing_is_erased_and_that_is_said(
    parts: Resources, source: Path
) -> None:
    await save(with_vault(parts, OLD), source)
    await save(parts, source)
    (one,) = (await pruned(parts, confirm=True)).profiles
    assert (one.session, one.chunks, one.size) == ("s1", 0, 0)
    assert one.problem is not None
    assert one.problem.startswith("session s1: nothing was erased, as generation 1 is sealed with key ")


async def test_pruning_and_sealing_anew_must_be_confirmed_and_need_the_keys(parts: Resources) -> None:
    assert await prune(parts, PruneProfiles()) == Problem(
        ProblemKind.INVALID, "pruning erases for good: set confirm to true, or look first with dry_run set to true"
    )
    assert await rekey(parts, RekeyProfiles()) == Problem(
        ProblemKind.INVALID, "set confirm to true, or look first with dry_run set to true"
    )
    keyless = with_vault(parts, b"")
    assert await prune(keyless, PruneProfiles(dry_run=True)) == conflict(NO_KEY)
    assert await rekey(keyless, RekeyProfiles(dry_run=True)) == conflict(NO_KEY)
    sessions = replace(parts.policies.sessions, vault=None)
    without = replace(parts, policies=replace(parts.policies, sessions=sessions))
    assert await prune(without, PruneProfiles(dry_run=True)) == NO_VAULT
    assert await rekey(without, RekeyProfiles(dry_run=True)) == NO_VAULT


async def test_what_an_older_key_sealed_is_sealed_with_the_first_and_the_older_can_go(
    parts: Resources, source: Path, tmp_path: Path
) -> None:
    old, both = with_vault(parts, OLD), with_vault(parts, SECRET, OLD)
    fence = (await opened(old).generations.claim("s1")).fence
    for _ in range(2):
        await save(old, source, fence=fence)
    await save(parts, source, "s2")
    plan = await rekeyed(both, dry_run=True)
    (one,) = plan.profiles
    assert (one.session, one.generations, one.problem) == ("s1", 2, None)
    assert (plan.looked_at, plan.generations) == (2, 2)
    done = await rekeyed(both, confirm=True)
    assert (done.looked_at, done.generations, len(done.profiles)) == (2, 2, 1)
    assert (await rekeyed(both, confirm=True)).profiles == ()
    assert [one.cure for one in (await verified(parts, scratch=True)).profiles] == [None, None]
    found = await shown(parts)
    assert [(it.number, it.fence) for it in found.generations] == [(2, fence), (1, fence)]
    assert found.fence == fence
    assert isinstance(await opened(parts).save("s1", fence, source, ORIGIN), Saved)
    assert (await pruned(parts, dry_run=True)).profiles == ()


async def test_without_the_older_key_it_says_which_is_needed(parts: Resources, source: Path) -> None:
    await save(with_vault(parts, OLD), source)
    (one,) = (await rekeyed(parts, confirm=True)).profiles
    assert (one.session, one.generations) == ("s1", 0)
    assert one.problem is not None
    assert one.problem.startswith("session s1, generation 1: generation 1 is sealed with key ")


async def test_running_saves_go_on_while_everything_is_sealed_anew(parts: Resources, source: Path) -> None:
    """Those of processes that have the new key first, and of one that does not know it yet."""
    old, both = with_vault(parts, OLD), with_vault(parts, SECRET, OLD)
    fence = (await opened(old).generations.claim("s1")).fence
    await save(old, source, fence=fence)
    stop, saves = asyncio.Event(), 0

    async def run() -> None:
        nonlocal saves
        while not stop.is_set():
            await save((both, with_vault(parts, OLD, SECRET))[saves % 2], source, fence=fence)
            saves += 1

    running = asyncio.create_task(run())
    try:
        for _ in range(20):
            await rekeyed(both, confirm=True)
            await pruned(both, confirm=True)
    finally:
        stop.set()
        await running
    assert saves > 3
    await rekeyed(both, confirm=True)
    assert (await rekeyed(both, confirm=True)).profiles == ()
    assert (await verified(parts)).profiles[0].cure is None


async def test_a_page_ends_after_some_seconds_and_says_where_to_go_on(
    parts: Resources, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = with_vault(parts, OLD)
    for number in range(3):
        await save(old, source, f"s{number}")
    monkeypatch.setattr("sluice.console.actions.vault_pages._SECONDS", 0.0)
    both, seen, after = with_vault(parts, SECRET, OLD), list[str](), ""
    for _ in range(3):
        page = await rekeyed(both, confirm=True, after=after)
        (one,) = page.profiles
        seen, after = [*seen, one.session], page.next or ""
    assert (seen, after) == (["s0", "s1", "s2"], "")
    assert (await pruned(both, dry_run=True, after="s0")).next == "s1"


async def test_what_was_done_before_the_folder_went_away_is_told(
    parts: Resources, tmp_path: Path, source: Path
) -> None:
    folder = tmp_path / "vault"
    folder.mkdir()
    old, both = (with_vault(parts, *keys, place=Folder(folder)) for keys in ((OLD,), (SECRET, OLD)))
    for session in ("s1", "s2"):
        await save(old, source, session)
    lost = folder / "s2"
    lost.rename(tmp_path / "lost")
    lost.write_text("no folder")
    page = await rekeyed(both, confirm=True)
    assert ([one.session for one in page.profiles], page.next) == (["s1"], "s1")
    refused = await rekey(both, RekeyProfiles(confirm=True, after="s1"))
    assert isinstance(refused, Problem)
    assert refused.kind is ProblemKind.UNAVAILABLE
