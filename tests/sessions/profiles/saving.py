"""Vaults of tests, and logins that are saved into them and come back."""

from __future__ import annotations

from pathlib import Path

from sessions.profiles.contents import Contents, Manifests
from sessions.profiles.generations import Generations, Profile
from sessions.profiles.manifest import Origin
from sessions.profiles.vault import Restored, Saved, Vault
from sluice.store.client import Store
from tests.sessions.profiles.making import SECRET, contents

ORIGIN = Origin("Chromium 156.0.8078.79", "leveldb", "host", "sluice")


def make(store: Store, place: Contents, secrets: tuple[bytes, ...] = (SECRET,)) -> Vault:
    return Vault(Generations(store), Manifests(store), place, secrets)


async def save(vault: Vault, source: Path, session: str = "s1", fence: int | None = None) -> Saved:
    fence = (await vault.generations.claim(session)).fence if fence is None else fence
    saved = await vault.save(session, fence, source, ORIGIN)
    assert isinstance(saved, Saved)
    return saved


async def restored(vault: Vault, target: Path, session: str = "s1") -> Restored:
    found = await vault.restore(session, target)
    assert isinstance(found, Restored)
    return found


async def known(vault: Vault, session: str = "s1") -> Profile:
    found = await vault.generations.of(session)
    assert found is not None
    return found


def login(folder: Path) -> dict[str, bytes]:
    """The files of it that are kept."""
    names = ("Default/IndexedDB/", "Default/Local Storage/", "Default/Cookies")
    left_out = ("LOCK", "LOG")
    return {
        name: content
        for name, content in contents(folder).items()
        if name.startswith(names) and name.rpartition("/")[2] not in left_out
    }


async def used(vault: Vault, session: str = "s1") -> set[tuple[int, str]]:
    """The chunks of all generations, each of which is read whole."""
    numbers = [one.number for one in (await known(vault, session)).generations]
    return {(chunk.of, chunk.name) for number in numbers for chunk in (await vault.verify(session, number)).chunks}
