"""What went wrong with a profile is told until it is over."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sessions.profiles import troubles
from sessions.profiles.contents import ContentsAway
from sessions.profiles.manifest import Origin
from sessions.profiles.opening import open_vault
from sessions.profiles.policies import Folder, VaultPolicy
from sessions.profiles.troubles import Trouble
from sessions.profiles.vault import NoneReadable, Restored, Saved, Vault
from sluice.config.model import Secret
from sluice.store.client import Store, StoreRefused
from tests.heard import Heard
from tests.sessions.profiles.making import OLD, SECRET, profile

pytestmark = pytest.mark.anyio


def opened(store: Store, folder: Path | None = None, secret: bytes = SECRET) -> Vault:
    return open_vault(VaultPolicy(Folder(folder) if folder else "store", (Secret(secret),)), store)


async def save(vault: Vault, folder: Path, session: str = "s1") -> Saved:
    saved = await vault.save(session, (await vault.generations.claim(session)).fence, folder, Origin())
    assert isinstance(saved, Saved)
    return saved


async def told(store: Store) -> list[tuple[str, str, int, str]]:
    return [(one.kind, one.session, one.times, one.reason) for one in await troubles.known(store)]


async def test_nothing_is_told_where_all_is_well(store: Store, tmp_path: Path) -> None:
    vault = opened(store)
    await save(vault, profile(tmp_path / "source"))
    assert isinstance(await vault.restore("s1", tmp_path / "target"), Restored)
    assert await troubles.known(store) == []


async def test_a_save_that_fails_is_told_until_one_goes_well(store: Store, tmp_path: Path) -> None:
    source, place = profile(tmp_path / "source"), tmp_path / "vault"
    vault = opened(store, place)
    for _ in range(2):
        with pytest.raises(ContentsAway):
            await save(vault, source)
    reason = f"the vault's folder {place} is not there: make it (mkdir -m 700 {place}), or mount it"
    assert await told(store) == [("save", "s1", 2, reason)]
    place.mkdir()
    await save(vault, source)
    assert await told(store) == []


async def test_a_disk_that_is_full_is_told(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/srv/scratch")

    monkeypatch.setattr("sessions.profiles.contents.InStore.put", full)
    with pytest.raises(OSError, match="No space left"):
        await save(opened(store), profile(tmp_path / "source"))
    assert await told(store) == [("save", "s1", 1, "No space left on device: /srv/scratch; make room there")]


async def test_a_store_that_is_full_is_told_in_it(store: Store, tmp_path: Path) -> None:
    vault, source = opened(store), profile(tmp_path / "source")
    fence = (await vault.generations.claim("s1")).fence
    await store.commands(("CONFIG", "SET", "maxmemory", "1mb"))
    try:
        with pytest.raises(StoreRefused):
            await vault.save("s1", fence, source, Origin())
        ((kind, session, times, reason),) = await told(store)
        await troubles.end(store, "s1")
    finally:
        await store.commands(("CONFIG", "SET", "maxmemory", "0"))
    assert (kind, session, times) == ("save", "s1", 1)
    assert reason.startswith("the store is full (OOM ")
    assert reason.endswith("): give it more memory or disk, or set sessions.vault.url to a folder or a bucket")
    assert await told(store) == []


async def test_a_restore_that_fell_back_is_told_for_a_day(store: Store, tmp_path: Path) -> None:
    vault = opened(store)
    await save(vault, profile(tmp_path / "source"))
    second = await save(vault, profile(tmp_path / "source", seed=2))
    await store.commands(("HDEL", "sl:{vault:s1}:manifests", str(second.generation)))
    assert isinstance(await vault.restore("s1", tmp_path / "target"), Restored)
    assert await told(store) == [("fell_back", "s1", 1, "generation 2: generation 2 has no manifest")]
    await save(vault, profile(tmp_path / "source", seed=3))
    assert len(await told(store)) == 1


async def test_a_login_that_cannot_be_restored_is_told_until_it_is(store: Store, tmp_path: Path) -> None:
    await save(opened(store, secret=OLD), profile(tmp_path / "source"))
    with pytest.raises(NoneReadable):
        await opened(store).restore("s1", tmp_path / "target")
    ((kind, session, times, reason),) = await told(store)
    assert (kind, session, times) == ("restore", "s1", 1)
    assert reason.startswith("no generation of session s1 can be restored: generation 1 is sealed with key ")
    assert isinstance(await opened(store, secret=OLD).restore("s1", tmp_path / "target"), Restored)
    assert await told(store) == []


async def test_a_stale_save_is_told(store: Store, tmp_path: Path) -> None:
    vault = opened(store)
    older = (await vault.generations.claim("s1")).fence
    await vault.generations.claim("s1")
    assert await vault.save("s1", older, profile(tmp_path / "source"), Origin()) == "stale"
    assert await told(store) == [("stale", "s1", 1, "a save or a delete of an older start was refused")]


async def test_what_is_erased_has_no_troubles(store: Store, tmp_path: Path) -> None:
    vault = opened(store)
    await save(vault, profile(tmp_path / "source"))
    for kind in troubles.KINDS:
        await troubles.note(store, kind, "s1", "something")
    assert len(await troubles.known(store)) == len(troubles.KINDS)
    await vault.erase("s1")
    assert await troubles.known(store) == []


async def test_so_many_are_kept_and_the_oldest_go_first(store: Store) -> None:
    for number in range(305):
        await troubles.note(store, "save", f"s{number}", "x" * 1000)
    found = await troubles.known(store)
    assert len(found) == 300
    assert {one.session for one in found} >= {f"s{number}" for number in range(50, 305)}
    assert {len(one.reason) for one in found} == {300}


async def test_what_has_not_happened_for_a_day_is_over(store: Store) -> None:
    await troubles.note(store, "save", "s1", "something")
    (hour,) = (one for one in await troubles.known(store))
    assert hour == Trouble("save", "s1", 1, hour.since, hour.last, "something")
    assert await store.run(troubles._TROUBLES, troubles.KEY_PATTERNS, (-1,)) == []


async def test_a_store_that_is_away_is_logged_and_is_no_other_failure(heard: Heard) -> None:
    store = Store("unix:///nowhere/store.sock", timeout=0.5)
    await troubles.note(store, "save", "s1", "something")
    await troubles.end(store, "s1")
    await store.close()
    assert [message for message, _ in heard.lines] == [
        "profile.trouble", "profile.trouble_not_noted", "profile.trouble_not_ended",
    ]  # fmt: skip
