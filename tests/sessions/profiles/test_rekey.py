"""An old key can be taken away when all is sealed with the new one, whatever happens while that is done."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from sessions.profiles.contents import Contents
from sessions.profiles.rekey import Rekeyed, rekey
from sessions.profiles.vault import Saved, Vault
from sluice.store.client import Store
from tests.sessions.profiles.making import OLD, SECRET, contents, profile
from tests.sessions.profiles.saving import ORIGIN, known, login, make, restored, save, used

pytestmark = pytest.mark.anyio


@pytest.fixture
def vault(store: Store, place: Contents) -> Vault:
    return make(store, place, (SECRET, OLD))


async def three_old_generations(store: Store, place: Contents, tmp_path: Path) -> Path:
    """The last one of them."""
    before, source = make(store, place, (OLD,)), profile(tmp_path / "source")
    for number in range(3):
        (source / "Default/Cookies").write_bytes(b"cookies %d" % number)
        await save(before, source)
    return source


async def test_all_generations_are_sealed_anew_and_the_old_key_is_needed_no_more(
    vault: Vault, store: Store, place: Contents, tmp_path: Path
) -> None:
    source = await three_old_generations(store, place, tmp_path)
    before, lay = await known(vault), await place.lying("s1")
    would = await rekey(vault, "s1", dry_run=True)
    assert await known(vault) == before
    done = await rekey(vault, "s1")
    assert (done.generations, done.problems) == (3, ())
    assert (done.chunks, done.size) == (would.chunks, would.size), "shared chunks are written once"
    after = await known(vault)
    assert [(one.number, one.made, one.fence, one.size) for one in after.generations] == [
        (one.number, one.made, one.fence, one.size) for one in before.generations
    ]
    assert set(await place.lying("s1")) == await used(vault)
    assert not set(lay) & set(await place.lying("s1")), "nothing is left of the old ones"
    only_new = make(store, place)
    for generation in after.generations:
        await only_new.verify("s1", generation.number)
    await restored(only_new, tmp_path / "target")
    assert contents(tmp_path / "target") == login(source)
    assert await rekey(vault, "s1") == Rekeyed()


async def test_whoever_runs_the_session_is_not_disturbed(
    vault: Vault, store: Store, place: Contents, tmp_path: Path
) -> None:
    source = await three_old_generations(store, place, tmp_path)
    fence = (await vault.generations.claim("s1")).fence
    await rekey(vault, "s1")
    saved = await vault.save("s1", fence, source, ORIGIN)
    assert isinstance(saved, Saved)
    assert (saved.generation, saved.new) == (3, 0), "nothing has changed, and that is seen"


async def test_a_deleted_session_is_sealed_anew_too(
    vault: Vault, store: Store, place: Contents, tmp_path: Path
) -> None:
    """Its deletion may be taken back."""
    await three_old_generations(store, place, tmp_path)
    await vault.generations.delete("s1", None)
    assert (await rekey(vault, "s1")).generations == 3
    await vault.generations.undelete("s1")
    await restored(make(store, place), tmp_path / "target")


async def test_what_cannot_be_read_is_told_and_the_others_are_sealed_anew(
    vault: Vault, store: Store, place: Contents, tmp_path: Path
) -> None:
    await three_old_generations(store, place, tmp_path)
    manifest = await vault.verify("s1", 2)
    (own,) = [chunk for chunk in manifest.chunks if chunk.of == 2]
    await place.erase("s1", [(2, own.name)])
    done = await rekey(vault, "s1")
    assert done.generations == 2
    assert done.problems == (f"session s1, generation 2: chunk {own.name} is missing",)
    third = make(store, place, (b"quite another secret of that size",))
    told = (await rekey(third, "s1")).problems
    assert len(told) == 3
    assert all("which sessions.vault.key does not name" in one for one in told)


@pytest.mark.parametrize("step", range(8))
async def test_it_goes_on_where_it_was_stopped(
    vault: Vault, store: Store, place: Contents, tmp_path: Path, step: int
) -> None:
    source = await three_old_generations(store, place, tmp_path)
    sealing = asyncio.create_task(rekey(vault, "s1"))
    await asyncio.sleep(step * 0.015)
    sealing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sealing
    await used(vault)
    await rekey(vault, "s1")
    await restored(make(store, place), tmp_path / "target")
    assert contents(tmp_path / "target") == login(source)
    (source / "Default/Cookies").write_bytes(b"newer")
    await save(vault, source)
    assert set(await place.lying("s1")) == await used(vault), "what was left is swept"


async def test_saves_and_restores_go_on_meanwhile(vault: Vault, store: Store, place: Contents, tmp_path: Path) -> None:
    source = await three_old_generations(store, place, tmp_path)
    logins = [login(source)]
    fence = (await vault.generations.claim("s1")).fence
    before = make(store, place, (OLD,))

    async def saver() -> None:
        for number in range(6):
            (source / "Default/Cookies").write_bytes(b"newer %d" % number)
            logins.append(login(source))
            assert isinstance(await before.save("s1", fence, source, ORIGIN), Saved), "by a worker of the old key"

    async def reader() -> None:
        for number in range(6):
            found = await restored(vault, tmp_path / f"target{number}")
            assert found.skipped == ()
            assert contents(tmp_path / f"target{number}") in logins

    results = await asyncio.gather(saver(), reader(), rekey(vault, "s1"), rekey(vault, "s1"))
    assert results[2].generations + results[3].generations > 0
    while (await rekey(vault, "s1")).generations:
        pass
    await used(make(store, place))
