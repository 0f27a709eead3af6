"""Nothing but a whole generation is ever restored: whatever is done to what lies there, whoever is killed, whatever the
store has lost."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from sessions.profiles.contents import Contents, Manifests
from sessions.profiles.errors import Broken
from sessions.profiles.generations import KEYS
from sessions.profiles.policies import Folder, Place
from sessions.profiles.prune import prune
from sessions.profiles.rekey import rekey
from sessions.profiles.vault import NoneReadable, Restored, Saved
from sluice.store.client import Store
from tests.sessions.profiles.making import OLD, SECRET, contents, profile
from tests.sessions.profiles.places import contents_in, new_bucket
from tests.sessions.profiles.saving import ORIGIN, known, login, make, restored, save, used
from tests.sluice.store.store_servers import Server
from tests.sluice.store.test_cluster import servers

pytestmark = pytest.mark.anyio
__all__ = ["servers"]

Lying = dict[tuple[str, str], bytes]
"""What lies there: of which session, and under which name; a manifest is named by its number alone."""


async def all_that_lies(place: Contents, store: Store) -> Lying:
    found: Lying = {}
    for session in ("s1", "s2"):
        for of, name in await place.lying(session):
            found[session, f"{of}/{name}"] = await place.get(session, of, name) or b""
        for number in await Manifests(store).lying(session):
            found[session, str(number)] = await Manifests(store).get(session, number) or b""
    return found


async def lay(place: Contents, store: Store, where: tuple[str, str], sealed: bytes) -> None:
    session, name = where
    of, slash, chunk = name.partition("/")
    if slash:
        await place.put(session, int(of), chunk, sealed)
    else:
        await Manifests(store).erase(session, [int(of)])
        await Manifests(store).put(session, int(of), sealed)


def cut(chance: random.Random, lying: Lying, where: tuple[str, str]) -> bytes:
    return lying[where][: chance.randrange(len(lying[where]))]


def flipped(chance: random.Random, lying: Lying, where: tuple[str, str]) -> bytes:
    sealed = bytearray(lying[where])
    sealed[chance.randrange(len(sealed))] ^= 1 << chance.randrange(8)
    return bytes(sealed)


def grown(chance: random.Random, lying: Lying, where: tuple[str, str]) -> bytes:
    return lying[where] + chance.randbytes(chance.randrange(1, 40))


def swapped(chance: random.Random, lying: Lying, where: tuple[str, str]) -> bytes:
    """With any other chunk or manifest, of this session or of another one."""
    return lying[chance.choice([other for other in lying if lying[other] != lying[where]])]


@pytest.mark.parametrize("damage", [cut, flipped, grown, swapped])
async def test_what_was_cut_changed_or_swapped_is_never_restored_and_the_generation_before_is(
    place: Contents,
    store: Store,
    tmp_path: Path,
    damage: Callable[[random.Random, Lying, tuple[str, str]], bytes],
    request: pytest.FixtureRequest,
) -> None:
    chance = random.Random(request.node.name)
    vault, logins = make(store, place), []
    for number in (1, 2):
        for session in ("s1", "s2"):
            folder = profile(tmp_path / f"{session}-{number}", size=200_000, seed=number + 10 * (session == "s2"))
            await save(vault, folder, session)
            logins += [login(folder)] if session == "s1" else []
    lying = await all_that_lies(place, store)
    for _ in range(40 if "store" in request.node.name else 6):
        where = chance.choice([one for one in lying if one[0] == "s1"])
        await lay(place, store, where, damage(chance, lying, where))
        found = await restored(vault, tmp_path / "target")
        assert (found.generation.number == 2) == (not found.skipped)
        assert contents(tmp_path / "target") == logins[found.generation.number - 1]
        is_of_newest = where[1].partition("/")[0] == "2"
        assert found.generation.number == (1 if is_of_newest else 2)
        await lay(place, store, where, lying[where])
    assert (await restored(vault, tmp_path / "target")).generation.number == 2


async def test_a_manifest_of_another_time_is_not_taken_for_the_newest(
    place: Contents, store: Store, tmp_path: Path
) -> None:
    """Replayed: what was true once."""
    vault = make(store, place)
    for seed in (1, 2):
        await save(vault, profile(tmp_path / f"{seed}", size=10, seed=seed))
    first = await Manifests(store).get("s1", 1)
    assert first is not None
    await lay(place, store, ("s1", "2"), first)
    found = await restored(vault, tmp_path / "target")
    assert found.generation.number == 1
    assert found.skipped == ("generation 2: generation 2 was changed, or is that of another session or generation",)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["store", "folder", "bucket"])
async def test_a_saving_process_that_is_killed_at_any_moment_leaves_a_whole_generation(
    store: Store, store_url: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    where: Place = "store"
    if kind == "folder":
        (tmp_path / "vault").mkdir()
        where = Folder(tmp_path / "vault")
    elif kind == "bucket":
        where = new_bucket(request.getfixturevalue("s3"))
    place = contents_in(where, store)
    said = json.dumps(asdict(where)) if kind == "bucket" else str(where)  # type: ignore[call-overload]
    vault, source, chance = make(store, place), profile(tmp_path / "source", size=3_000_000), random.Random(kind)
    await save(vault, source)
    for attempt in range(5):
        command = [sys.executable, "-m", "tests.sessions.profiles.saver", store_url, said, str(source)]
        saving = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert saving.stdout is not None
        await asyncio.to_thread(saving.stdout.readline)  # it runs
        await asyncio.sleep(chance.random() * 0.4)
        saving.kill()
        await asyncio.to_thread(saving.wait)
        saving.stdout.close()
        found = await restored(vault, tmp_path / f"target{attempt}")
        assert found.skipped == ()
        await used(vault)
    await save(vault, profile(tmp_path / "last", size=10))
    assert set(await place.lying("s1")) == await used(vault), "what was left is swept"


async def test_a_store_that_lost_its_last_second_keeps_whole_generations(
    place: Contents, store: Store, tmp_path: Path
) -> None:
    """It may forget a generation that it had confirmed, while the chunks of it lie there still."""
    vault, first = make(store, place), profile(tmp_path / "first", size=10)
    fence = (await vault.generations.claim("s1")).fence
    await save(vault, first, fence=fence)
    (record,) = await store.commands(("HGET", KEYS[0], "s1"))
    await save(vault, profile(tmp_path / "second", size=10, seed=2), fence=fence)
    await store.commands(("HSET", KEYS[0], "s1", record))
    assert (await restored(vault, tmp_path / "target")).generation.number == 1
    assert contents(tmp_path / "target") == login(first)
    third = profile(tmp_path / "third", size=10, seed=3)
    with pytest.raises(Broken, match="the number 2 was given twice, as the store has lost its last writes"):
        await vault.save("s1", fence, third, ORIGIN)
    assert isinstance(await vault.save("s1", fence, third, ORIGIN), Saved)
    assert (await restored(vault, tmp_path / "target")).skipped == ()
    assert contents(tmp_path / "target") == login(third)
    assert set(await place.lying("s1")) == await used(vault)


async def test_a_store_that_is_full_refuses_saves_and_still_restores_and_deletes(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    vault, source = make(store, contents_in("store", store)), profile(tmp_path / "source", size=10)
    await save(vault, source)
    (info,) = await store.commands(("INFO", "memory"))
    in_use = int(info.split(b"used_memory:")[1].split(b"\r")[0])
    try:
        await store.commands(("CONFIG", "SET", "maxmemory", in_use + 500_000))
        with pytest.raises(Exception, match="OOM"):
            await save(vault, profile(tmp_path / "large", size=4 * 2**20, seed=2))
        assert {of for of, _ in await contents_in("store", store).lying("s1")} == {1}, "it is taken back"
        await store.commands(("CONFIG", "SET", "maxmemory", 1_000_000))
        fence = (await vault.generations.claim("s1")).fence
        assert isinstance(await vault.restore("s1", tmp_path / "target"), Restored)
        assert contents(tmp_path / "target") == login(source)
        assert await vault.generations.delete("s1", fence) is True
        await vault.erase("s1")
        assert await vault.generations.of("s1") is None
    finally:
        await store.commands(("CONFIG", "SET", "maxmemory", 0))


@pytest.mark.slow
async def test_all_of_it_runs_on_a_cluster(servers: list[Server], tmp_path: Path) -> None:
    addresses = f"redis+cluster://127.0.0.1:{servers[0].port},127.0.0.1:{servers[1].port}"
    store = Store(addresses, timeout=10.0)
    try:
        place = contents_in("store", store)
        before, vault = make(store, place, (OLD,)), make(store, place, (SECRET, OLD))
        for number in range(4):
            await save(before, profile(tmp_path / f"{number}", size=200_000, seed=number), f"s{number % 2}")
        for session in ("s0", "s1"):
            assert (await rekey(vault, session)).generations == 2
            await restored(make(store, place), tmp_path / session, session)
        _, page = await vault.generations.page()
        assert {one.session for one in page} == {"s0", "s1"}
        await vault.generations.delete("s0", None)
        assert (await prune(vault, "s0", deleted_for=0.0)).generations == 2
        for session in ("s0", "s1"):
            await vault.erase(session)
        assert await vault.generations.page() == ("0", [])
    finally:
        await store.close()


MEMORY = """
import asyncio, sys
from pathlib import Path
from sluice.store.client import Store
from tests.sessions.profiles.making import profile
from tests.sessions.profiles.places import contents_in
from tests.sessions.profiles.saver import place_of
from tests.sessions.profiles.saving import make, restored, save

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

async def main():
    store = Store(sys.argv[1], timeout=30.0)
    vault = make(store, contents_in(place_of(sys.argv[2]), store))
    folder = Path(sys.argv[3])
    await save(vault, profile(folder / "small", size=10), "s0")
    await restored(vault, folder / "first", "s0")
    before = peak()
    await save(vault, folder / "large")
    saved = peak()
    await restored(vault, folder / "target")
    print(saved - before, peak() - before)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["store", "folder", "bucket"])
async def test_a_profile_of_sixty_megabytes_takes_a_few_of_memory(
    store_url: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    where = "store"
    if kind == "folder":
        (tmp_path / "vault").mkdir()
        where = f"file:{tmp_path / 'vault'}"
    elif kind == "bucket":
        where = json.dumps(asdict(new_bucket(request.getfixturevalue("s3"))))
    profile(tmp_path / "large", size=60 * 2**20)
    command = [sys.executable, "-c", MEMORY, store_url, where, str(tmp_path)]
    said = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True, timeout=120)
    saved, restored_too = map(int, said.stdout.split())
    assert saved <= 32
    assert restored_too <= 32


async def test_where_all_is_broken_it_is_not_said_that_there_is_no_login(
    place: Contents, store: Store, tmp_path: Path
) -> None:
    vault = make(store, place)
    for seed in (1, 2):
        await save(vault, profile(tmp_path / f"{seed}", size=10, seed=seed))
    for one in (await known(vault)).generations:
        await lay(place, store, ("s1", str(one.number)), b"broken")
    target = profile(tmp_path / "target", size=10, seed=9)
    before = contents(target)
    with pytest.raises(NoneReadable):
        await vault.restore("s1", target)
    assert contents(target) == before
