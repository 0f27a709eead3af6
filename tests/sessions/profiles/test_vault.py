"""Profiles that are saved come back whole, whatever happens meanwhile; where they lie makes no difference."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from pathlib import Path
from typing import Any

import pytest

from sessions.profiles import browsers
from sessions.profiles.contents import Contents, ContentsAway, Manifests
from sessions.profiles.errors import Broken, WrongKey
from sessions.profiles.folder import InFolder
from sessions.profiles.manifest import Origin, unproven
from sessions.profiles.packing import ChangedMeanwhile
from sessions.profiles.portable import portable_files
from sessions.profiles.vault import NoneReadable, NothingKept, Restored, Saved, Vault
from sluice.store.client import Store
from tests.heard import Heard
from tests.sessions.profiles.making import LEVELDB, OLD, SECRET, contents, profile
from tests.sessions.profiles.saving import ORIGIN, known, login, make, restored, save, used
from tests.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
def vault(store: Store, place: Contents) -> Vault:
    return make(store, place)


async def test_a_profile_comes_back(vault: Vault, tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    saved = await save(vault, source)
    assert (saved.generation, saved.new) == (1, saved.chunks)
    found = await restored(vault, tmp_path / "target")
    assert (found.generation.number, found.skipped) == (1, ())
    assert found.generation.browser == "Chromium 156.0.8078.79"
    assert contents(tmp_path / "target") == login(source)


async def test_only_what_has_changed_is_written_again(vault: Vault, tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    first = await save(vault, source)
    (source / "Default/Cookies").write_bytes(b"other")
    second = await save(vault, source)
    assert (first.new, second.new) == (first.chunks, 1)
    assert second.written < first.written / 10
    await restored(vault, tmp_path / "target")
    assert contents(tmp_path / "target") == login(source)


async def test_what_no_generation_has_any_more_is_erased(
    vault: Vault, place: Contents, store: Store, tmp_path: Path
) -> None:
    source, fence = profile(tmp_path / "source"), (await vault.generations.claim("s1")).fence
    for number in range(6):
        (source / "Default/Cookies").write_bytes(b"cookies %d" % number)
        (source / LEVELDB / "000005.ldb").write_bytes(random.Random(number // 2).randbytes(2**20))
        await save(vault, source, fence=fence)
    assert sorted(await Manifests(store).lying("s1")) == [4, 5, 6]
    assert set(await place.lying("s1")) == await used(vault)


async def test_a_newest_generation_that_is_broken_falls_back_to_the_one_before(
    vault: Vault, place: Contents, tmp_path: Path
) -> None:
    source = profile(tmp_path / "source")
    await save(vault, source)
    before = login(source)
    (source / "Default/Cookies").write_bytes(b"other")
    await save(vault, source)
    manifest = await vault.verify("s1", 2)
    (new,) = [chunk for chunk in manifest.chunks if chunk.of == 2]
    await place.put("s1", 2, new.name, b"broken")
    found = await restored(vault, tmp_path / "target")
    assert found.generation.number == 1
    assert found.skipped == (f"generation 2: {new.name} is cut, or was not written by Sluice",)
    assert contents(tmp_path / "target") == before


async def test_an_unproven_generation_pushes_none_out_and_goes_with_the_next_save(
    vault: Vault, store: Store, place: Contents, tmp_path: Path
) -> None:
    source = profile(tmp_path / "source")
    fence = (await vault.generations.claim("s1")).fence
    proven = [ORIGIN] * vault.keep
    expected = ([1], [1, 2], [1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 5], [2, 3, 6], [3, 6, 7])
    for number, origin in enumerate((*proven, unproven(ORIGIN), unproven(ORIGIN), *proven[:2])):
        (source / "Default/Cookies").write_bytes(b"cookies %d" % number)
        assert isinstance(await vault.save("s1", fence, source, origin), Saved)
        kept = (await known(vault)).generations
        assert [one.number for one in reversed(kept)] == expected[number]
        assert [one.number for one in kept if one.unproven] == [one for one in expected[number] if one in (4, 5)]
        assert browsers.named(kept[0].browser) == browsers.named(ORIGIN.browser), "which any version can read"
        assert set(await place.lying("s1")) == await used(vault)
    assert sorted(await Manifests(store).lying("s1")) == [3, 6, 7]


async def test_no_login_is_said_only_where_there_is_none(vault: Vault, place: Contents, tmp_path: Path) -> None:
    assert await vault.restore("s1", tmp_path / "target") == NothingKept(deleted=False)
    target = profile(tmp_path / "target", seed=2)
    before = contents(target)
    await save(vault, profile(tmp_path / "source"))
    for chunk in (await vault.verify("s1", 1)).chunks:
        await place.erase("s1", [(1, chunk.name)])
    with pytest.raises(
        NoneReadable, match="no generation of session s1 can be restored: chunk [0-9a-f]{32} is missing"
    ):
        await vault.restore("s1", target)
    assert contents(target) == before
    await vault.generations.delete("s1", None)
    assert await vault.restore("s1", target) == NothingKept(deleted=True)


async def test_keys_are_rotated(store: Store, place: Contents, tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    await save(make(store, place, (OLD,)), source)
    both = make(store, place, (SECRET, OLD))
    await restored(both, tmp_path / "target")
    with pytest.raises(NoneReadable, match="name the old key behind the new one"):
        await make(store, place).restore("s1", tmp_path / "other")
    saved = await save(both, source)
    assert saved.new == saved.chunks, "nothing is left that only the old key opens"
    await restored(make(store, place), tmp_path / "other")


async def test_two_workers_that_save_one_session_at_once_leave_one_whole_generation(
    vault: Vault, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    times = 100 if "store" in request.node.name else 10  # each
    sources = [profile(tmp_path / f"source{n}", size=200_000, seed=n) for n in range(2)]
    logins = [login(source) for source in sources]

    async def worker(number: int) -> int:
        counted = 0
        for _ in range(times):
            fence = (await vault.generations.claim("s1")).fence
            counted += isinstance(await vault.save("s1", fence, sources[number], ORIGIN), Saved)
        return counted

    async def reader() -> None:
        for n in range(10):
            found = await vault.restore("s1", tmp_path / f"target{n}")
            if isinstance(found, Restored):
                assert found.skipped == (), "what was replaced while it was read is not broken"
                assert contents(tmp_path / f"target{n}") in logins

    counted = await asyncio.gather(worker(0), worker(1), reader())
    assert (counted[0] or 0) + (counted[1] or 0) > 0
    await restored(vault, tmp_path / "last")
    assert contents(tmp_path / "last") in logins


@pytest.mark.parametrize("step", range(12))
async def test_a_save_that_ends_anywhere_leaves_what_was_there(
    vault: Vault, place: Contents, tmp_path: Path, step: int
) -> None:
    source = profile(tmp_path / "source", size=3 * 2**20)
    await save(vault, source)
    before = login(source)
    (source / LEVELDB / "000005.ldb").write_bytes(random.Random(9).randbytes(5 * 2**20))
    fence = (await vault.generations.claim("s1")).fence
    saving = asyncio.create_task(vault.save("s1", fence, source, ORIGIN))
    for _ in range(step * 3):
        await asyncio.sleep(0)
    await asyncio.sleep(step * 0.005)
    saving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await saving
    await restored(vault, tmp_path / "target")
    assert contents(tmp_path / "target") in (before, login(source))
    await save(vault, source)
    await restored(vault, tmp_path / "target")
    assert contents(tmp_path / "target") == login(source)


async def test_a_folder_that_cannot_be_written_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "vault").mkdir()
    vault = make(store, InFolder(tmp_path / "vault"))
    (tmp_path / "vault" / "s1").write_text("a file in the way")
    with pytest.raises(ContentsAway, match="^the vault in .*/vault cannot be written: Not a directory$"):
        await save(vault, profile(tmp_path / "source"))


@pytest.mark.parametrize("session", ["../up", "a/b", "..", "webjs_1_2_x", "ä"])
async def test_no_name_of_a_session_leads_out_of_its_folder(store: Store, tmp_path: Path, session: str) -> None:
    (tmp_path / "vault").mkdir()
    vault = make(store, InFolder(tmp_path / "vault"))
    source = profile(tmp_path / "source", size=10)
    await save(vault, source, session)
    await restored(vault, tmp_path / "target", session)
    assert contents(tmp_path / "target") == login(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target", "vault"]
    assert len(list((tmp_path / "vault").iterdir())) == 1


async def test_all_of_a_session_is_erased_for_good(vault: Vault, store: Store, tmp_path: Path) -> None:
    await save(vault, profile(tmp_path / "source", size=10))
    await vault.erase("s1")
    assert await vault.generations.of("s1") is None
    keys: Any = await store.redis.keys("sl:{vault:s1}:*")
    assert keys == []


def test_errors_are_of_one_kind() -> None:
    assert not issubclass(WrongKey, Broken), "a wrong key is the operator's, and no reason to distrust what is kept"


async def test_what_has_not_changed_pushes_nothing_out_and_is_new_again(vault: Vault, tmp_path: Path) -> None:
    source, fence = profile(tmp_path / "source"), (await vault.generations.claim("s1")).fence
    first = await save(vault, source, fence=fence)
    before = await vault.generations.of("s1")
    for _ in range(4):
        again = await save(vault, source, fence=fence)
        assert (again.generation, again.written, again.new) == (first.generation, 0, 0)
    known = await vault.generations.of("s1")
    assert known is not None
    assert before is not None
    assert [one.number for one in known.generations] == [1]
    assert known.generations[0].made > before.generations[0].made
    later = Origin("Chromium 157.0.9000.1", "leveldb", "host", "sluice")
    saved = await vault.save("s1", fence, source, later)
    assert isinstance(saved, Saved)
    assert (saved.generation > 1, saved.new) == (True, 0), "the browser is another one, and that is told"


async def test_a_snapshot_that_is_far_smaller_leaves_the_good_one_and_is_told(
    vault: Vault, tmp_path: Path, heard: Heard
) -> None:
    good, fence = profile(tmp_path / "good"), (await vault.generations.claim("s1")).fence
    first = await save(vault, good, fence=fence)
    for seed in range(5):
        saved = await save(vault, profile(tmp_path / f"small{seed}", size=10, seed=seed + 2), fence=fence)
        assert saved.last_good is not None
        assert saved.last_good.number == first.generation
    await vault.verify("s1", first.generation)
    assert "profile.shrunk" in heard.messages()


async def test_a_chunk_that_broke_is_written_again_within_some_saves(
    vault: Vault, place: Contents, tmp_path: Path
) -> None:
    source = profile(tmp_path / "source")
    await save(vault, source)
    chunk = (await vault.verify("s1", 1)).chunks[-1]
    await place.put("s1", 1, chunk.name, b"SV\x01 and nothing of it")

    async def is_written_again() -> bool:
        return (await save(vault, source)).new == 1

    await until(is_written_again)
    found = await restored(vault, tmp_path / "target")
    assert (found.generation.number > 1, found.skipped) == (True, ())


async def test_a_save_that_fails_takes_back_what_it_wrote(vault: Vault, place: Contents, tmp_path: Path) -> None:
    source = profile(tmp_path / "source", size=9 * 2**20)
    fence = (await vault.generations.claim("s1")).fence
    files, name = portable_files(source), f"{LEVELDB}/000005.ldb"
    assert any(file.name == name for file in files)
    saving = asyncio.create_task(vault.save("s1", fence, source, ORIGIN))

    async def something_is_written() -> bool:
        return bool(await place.lying("s1"))

    await until(something_is_written)
    os.truncate(source / name, 0)
    with pytest.raises(ChangedMeanwhile):
        await saving
    assert await place.lying("s1") == {}


async def test_what_a_killed_save_left_is_swept_by_the_next_one(
    vault: Vault, place: Contents, store: Store, tmp_path: Path
) -> None:
    fence = (await vault.generations.claim("s1")).fence
    begun = await vault.generations.begin("s1", fence)
    assert not isinstance(begun, str)
    await place.put("s1", begun, "0" * 32, b"half of it")
    await Manifests(store).put("s1", begun, b"and a manifest")
    await save(vault, profile(tmp_path / "source"), fence=fence)
    assert begun not in {of for of, _ in await place.lying("s1")}
    assert begun not in await Manifests(store).lying("s1")


async def test_a_newest_generation_whose_key_is_missing_is_not_passed_over(
    store: Store, place: Contents, tmp_path: Path
) -> None:
    """Nothing is wrong with it: an older login would be restored in its place, and saved over it."""
    await save(make(store, place, (OLD,)), profile(tmp_path / "source"))
    await save(make(store, place, (SECRET, OLD)), profile(tmp_path / "other", seed=2))
    with pytest.raises(NoneReadable, match="generation 2 is sealed with key .* name the old key behind the new one"):
        await make(store, place, (OLD,)).restore("s1", tmp_path / "target")


async def test_a_save_whose_base_is_dropped_meanwhile_is_made_whole(
    vault: Vault, place: Contents, tmp_path: Path
) -> None:
    """Of two overlapping saves of one start, of which one keeps a single generation."""
    source = profile(tmp_path / "source", size=9 * 2**20)
    fence = (await vault.generations.claim("s1")).fence
    await save(vault, source, fence=fence)
    (source / "Default/Cookies").write_bytes(b"changed")
    kept = vault.kept("s1")
    begun = await vault.generations.begin("s1", fence)
    assert not isinstance(begun, str)
    other = profile(tmp_path / "other", size=9 * 2**20, seed=2)
    vault.keep = 1
    one = vault.save("s1", fence, source, ORIGIN)
    results = await asyncio.gather(one, vault.save("s1", fence, other, ORIGIN), vault.save("s1", fence, other, ORIGIN))
    assert any(isinstance(result, Saved) for result in results)
    profile_now = await vault.generations.of("s1")
    assert profile_now is not None
    for generation in profile_now.generations:
        await vault.verify("s1", generation.number)
    assert set(await place.lying("s1")) >= {
        (chunk.of, chunk.name) for chunk in (await kept.manifest(profile_now.generations[0])).chunks
    }
