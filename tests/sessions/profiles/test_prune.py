"""What nothing needs any more is erased, and nothing else ever is, whatever runs beside it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sessions.profiles import prune as pruning
from sessions.profiles.contents import Contents, Manifests
from sessions.profiles.prune import Pruned, prune
from sessions.profiles.vault import Saved, Vault
from sluice.store.client import Store
from tests.sessions.profiles.making import profile
from tests.sessions.profiles.saving import ORIGIN, known, login, make, restored, save, used
from tests.waiting import until

pytestmark = pytest.mark.anyio

DAY = 86_400.0


@pytest.fixture
def vault(store: Store, place: Contents) -> Vault:
    return make(store, place)


async def test_of_a_session_that_is_not_known_there_is_nothing_to_prune(vault: Vault) -> None:
    assert await prune(vault, "s1", deleted_for=DAY) == Pruned()


async def test_what_is_kept_stays(vault: Vault, place: Contents, tmp_path: Path) -> None:
    for seed in range(3):
        await save(vault, profile(tmp_path / f"{seed}", size=10, seed=seed))
    before = await place.lying("s1")
    assert await prune(vault, "s1", deleted_for=0.0) == Pruned()
    assert await place.lying("s1") == before


async def test_a_login_that_was_deleted_is_kept_for_a_while_and_then_nothing_is_left(
    vault: Vault, place: Contents, store: Store, tmp_path: Path
) -> None:
    await save(vault, profile(tmp_path / "source"))
    lies = sum((await place.lying("s1")).values()) + sum((await Manifests(store).lying("s1")).values())
    await vault.generations.delete("s1", None)
    assert await prune(vault, "s1", deleted_for=DAY) == Pruned()
    await restored_after_undelete(vault, tmp_path)
    await vault.generations.delete("s1", None)
    expected = Pruned(sessions=1, generations=1, chunks=4, size=lies)

    async def is_over() -> bool:
        return (await prune(vault, "s1", deleted_for=0.01, dry_run=True)).sessions == 1

    # Young numbers that never counted are not settled yet, so the record would stay: this one has none.
    await until(is_over)
    assert await prune(vault, "s1", deleted_for=0.01, dry_run=True) == expected
    assert await place.lying("s1"), "it was only asked"
    assert await prune(vault, "s1", deleted_for=0.01) == expected
    assert await vault.generations.of("s1") is None
    assert await place.lying("s1") == {}
    assert await store.redis.keys("sl:{vault:s1}:*") == []


async def restored_after_undelete(vault: Vault, tmp_path: Path) -> None:
    assert await vault.generations.undelete("s1")
    await restored(vault, tmp_path / "again")


async def test_generations_beyond_those_that_are_kept_go(vault: Vault, place: Contents, tmp_path: Path) -> None:
    for seed in range(3):
        await save(vault, profile(tmp_path / f"{seed}", size=10, seed=seed))
    vault.keep = 1
    would = await prune(vault, "s1", deleted_for=DAY, dry_run=True)
    assert len((await known(vault)).generations) == 3
    assert (would.generations, would.chunks > 0, would.size > 0) == (2, True, True)
    assert await prune(vault, "s1", deleted_for=DAY) == would
    assert [one.number for one in (await known(vault)).generations] == [3]
    assert set(await place.lying("s1")) == await used(vault)


async def test_the_last_good_generation_goes_only_when_a_person_says_so(vault: Vault, tmp_path: Path) -> None:
    await save(vault, profile(tmp_path / "good"))
    for seed in (2, 3, 4):
        await save(vault, profile(tmp_path / f"{seed}", size=10, seed=seed))
    assert await prune(vault, "s1", deleted_for=DAY) == Pruned()
    would = await prune(vault, "s1", deleted_for=DAY, also_last_good=True, dry_run=True)
    assert would.generations == 1
    assert await prune(vault, "s1", deleted_for=DAY, also_last_good=True) == would
    assert [one.number for one in (await known(vault)).generations] == [4, 3, 2]


async def test_what_was_begun_and_never_counted_goes_after_an_hour(
    vault: Vault, place: Contents, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = (await vault.generations.claim("s1")).fence
    begun = await vault.generations.begin("s1", fence)
    assert not isinstance(begun, str)
    await place.put("s1", begun, "0" * 32, b"half of it")
    await Manifests(store).put("s1", begun, b"the rest")
    assert await prune(vault, "s1", deleted_for=DAY) == Pruned(), "it may still be written"
    monkeypatch.setattr(pruning, "ABANDONED", 0.0)
    expected = Pruned(chunks=1, size=len(b"half of itthe rest"))
    assert await prune(vault, "s1", deleted_for=DAY, dry_run=True) == expected
    assert await prune(vault, "s1", deleted_for=DAY) == expected
    assert await place.lying("s1") == {}
    assert (await save(vault, profile(tmp_path / "source", size=10), fence=fence)).generation == 2


async def test_where_a_manifest_cannot_be_read_nothing_is_erased_and_that_is_said(
    vault: Vault, place: Contents, store: Store, tmp_path: Path
) -> None:
    for seed in range(2):
        await save(vault, profile(tmp_path / f"{seed}", size=10, seed=seed))
    await store.redis.hset("sl:{vault:s1}:manifests", "1", "broken")
    before = await place.lying("s1")
    vault.keep = 1
    pruned = await prune(vault, "s1", deleted_for=DAY)
    assert (pruned.generations, pruned.problems) == (1, ()), "what is dropped needs not be read"
    await store.redis.hset("sl:{vault:s1}:manifests", "2", "broken")
    problem = "session s1: nothing was erased, as generation 2 is cut, or was not written by Sluice"
    assert (await prune(vault, "s1", deleted_for=DAY)).problems == (problem,)
    assert set(await place.lying("s1")) < set(before)


@pytest.mark.parametrize("abandoned", [3600.0, 0.05])
async def test_pruning_all_the_time_takes_nothing_from_two_hundred_saves(
    vault: Vault,
    place: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    abandoned: float,
) -> None:
    """Also where the numbers of running saves are settled under them: those are refused then."""
    monkeypatch.setattr(pruning, "ABANDONED", abandoned)
    saves = 200 if "store" in request.node.name else 20
    sources = [profile(tmp_path / f"{n}", size=200_000, seed=n) for n in range(3)]
    for source in sources[1:]:  # most of it is the same, so that chunks are shared
        (source / "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb/000005.ldb").write_bytes(
            (sources[0] / "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb/000005.ldb").read_bytes()
        )
    vault.keep = 1
    fence = (await vault.generations.claim("s1")).fence
    ended = False

    async def saver(number: int) -> int:
        counted = 0
        for i in range(saves // 2):
            saved = await vault.save("s1", fence, sources[(i + number) % 3], ORIGIN)
            counted += isinstance(saved, Saved)
        return counted

    async def pruner() -> int:
        times = 0
        while not ended:
            await prune(vault, "s1", deleted_for=0.0)
            times += 1
        return times

    pruning_task = asyncio.create_task(pruner())
    counted = await asyncio.gather(saver(0), saver(1))
    ended = True
    assert await pruning_task > 5
    assert sum(counted) > (saves // 4 if abandoned == 3600.0 else -1)
    await save(vault, sources[0])
    found = await restored(vault, tmp_path / "target")
    assert found.skipped == ()
    assert login(tmp_path / "target") in [login(source) for source in sources]
    await prune(vault, "s1", deleted_for=0.0)
    assert set(await place.lying("s1")) == await used(vault)
