"""A login of the vault is written where whatsapp-web.js looks for it; nothing there is overwritten."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sessions.profiles import taking, zips
from sessions.profiles.contents import InStore, Manifests
from sessions.profiles.exporting import Form, NotExported, export
from sessions.profiles.generations import Generations
from sessions.profiles.manifest import Origin
from sessions.profiles.migration import Migration, scratch
from sessions.profiles.migration_plan import Stage
from sessions.profiles.portable import portable_files
from sessions.profiles.vault import Saved, Vault
from sluice.store.client import Store
from tests.sessions.profiles.making import SECRET, contents, profile

pytestmark = pytest.mark.anyio

ORIGIN = Origin("Chromium 156.0.8078.79", "leveldb", "host", "sluice")


@pytest.fixture
def vault(store: Store) -> Vault:
    return Vault(Generations(store), Manifests(store), InStore(store), [SECRET])


async def save(vault: Vault, source: Path, session: str = "a") -> None:
    fence = (await vault.generations.claim(session)).fence
    assert isinstance(await vault.save(session, fence, source, ORIGIN), Saved)


def login(folder: Path) -> dict[str, bytes]:
    return {file.name: (folder / file.name).read_bytes() for file in portable_files(folder)}


async def test_a_folder_of_local_auth_is_written(vault: Vault, tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    await save(vault, source)
    dry = await export(vault, "a", "local-auth", tmp_path / "auth", dry_run=True)
    assert (dry.exported, (tmp_path / "auth").exists()) == (False, False)
    done = await export(vault, "a", "local-auth", tmp_path / "auth")
    assert (done.exported, done.generation, done.target) == (True, 1, str(tmp_path / "auth/session-a"))
    assert (done.browser, done.backend) == ("Chromium 156.0.8078.79", "leveldb")
    assert contents(tmp_path / "auth") == {f"session-a/{name}": content for name, content in login(source).items()}
    assert (tmp_path / "auth/session-a").stat().st_mode & 0o777 == 0o700


async def test_a_zip_of_remote_auth_is_written(vault: Vault, tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    await save(vault, source)
    done = await export(vault, "a", "remote-auth", tmp_path / "auth")
    assert done.target == str(tmp_path / "auth/RemoteAuth-a.zip")
    assert [path.name for path in (tmp_path / "auth").iterdir()] == ["RemoteAuth-a.zip"]
    with zipfile.ZipFile(done.target) as archive:
        zipped = {name: archive.read(name) for name in archive.namelist() if name != zips.LAST}
    kept = {name: content for name, content in login(source).items() if not name.startswith("Default/Cookies")}
    assert zipped == kept
    assert Path(done.target).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", ["local-auth", "remote-auth"])
async def test_what_is_there_is_never_overwritten(vault: Vault, tmp_path: Path, form: Form) -> None:
    source = profile(tmp_path / "source")
    await save(vault, source)
    await export(vault, "a", form, tmp_path / "auth")
    before = contents(tmp_path / "auth")
    await save(vault, profile(tmp_path / "other", seed=2))
    name = "session-a" if form == "local-auth" else "RemoteAuth-a.zip"
    with pytest.raises(NotExported) as error:
        await export(vault, "a", form, tmp_path / "auth")
    assert str(error.value) == (
        f"{tmp_path}/auth/{name} is there already, and nothing is overwritten: move it away, or name another folder"
    )
    assert contents(tmp_path / "auth") == before


@pytest.mark.parametrize("form", ["local-auth", "remote-auth"])
async def test_what_comes_there_in_the_last_moment_is_not_overwritten_either(
    vault: Vault, tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    await save(vault, profile(tmp_path / "source"))
    target = tmp_path / "auth" / ("session-a" if form == "local-auth" else "RemoteAuth-a.zip")
    restore = vault.restore

    async def meanwhile(*args: object, **kwargs: object) -> object:
        if form == "local-auth":
            (target / "Default").mkdir(parents=True)
        else:
            target.write_bytes(b"of somebody else")
        return await restore(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(vault, "restore", meanwhile)
    with pytest.raises(NotExported, match="is there already, and nothing is overwritten"):
        await export(vault, "a", form, tmp_path / "auth")
    assert [path.name for path in (tmp_path / "auth").iterdir()] == [target.name]
    assert target.is_dir() or target.read_bytes() == b"of somebody else"


async def test_a_generation_may_be_named(vault: Vault, tmp_path: Path) -> None:
    sources = [profile(tmp_path / f"source{n}", seed=n) for n in range(2)]
    for source in sources:
        await save(vault, source)
    done = await export(vault, "a", "local-auth", tmp_path / "auth", number=1)
    assert done.generation == 1
    assert contents(tmp_path / "auth/session-a") == login(sources[0])
    with pytest.raises(NotExported) as error:
        await export(vault, "a", "local-auth", tmp_path / "other", number=7)
    assert str(error.value) == "session a has no generation 7; it has 2, 1"


async def test_what_cannot_be_exported_says_why(vault: Vault, tmp_path: Path) -> None:
    source = profile(tmp_path / "source", size=10)
    with pytest.raises(NotExported) as error:
        await export(vault, "a", "local-auth", tmp_path / "auth")
    assert str(error.value) == "the vault has no login of session a: `sluice vault list` shows what it has"
    await save(vault, source)
    await vault.generations.delete("a", None)
    with pytest.raises(NotExported) as error:
        await export(vault, "a", "local-auth", tmp_path / "auth")
    assert str(error.value) == "the login of session a was deleted: sluice vault undelete a takes it back"
    await save(vault, source, "a.b")
    with pytest.raises(NotExported) as error:
        await export(vault, "a.b", "local-auth", tmp_path / "auth")
    assert str(error.value) == ("a.b is no clientId of whatsapp-web.js, which takes letters, digits, - and _ only")
    assert not (tmp_path / "auth").exists()


async def test_what_a_killed_export_has_left_is_removed_by_the_next_one(vault: Vault, tmp_path: Path) -> None:
    await save(vault, profile(tmp_path / "source", size=10))
    profile(tmp_path / "auth" / ".sluice-exporting" / "profile")
    await export(vault, "a", "local-auth", tmp_path / "auth")
    assert [path.name for path in (tmp_path / "auth").iterdir()] == ["session-a"]


@pytest.mark.parametrize("form", ["local-auth", "remote-auth"])
async def test_an_export_that_is_moved_in_again_is_the_same_login(
    vault: Vault, store: Store, tmp_path: Path, form: Form
) -> None:
    source = profile(tmp_path / "source")
    if form == "remote-auth":  # whose zips have no cookies
        (source / "Default/Cookies").unlink()
    await save(vault, source)
    await export(vault, "a", form, tmp_path / "auth")
    await vault.erase("a")
    with scratch(tmp_path / "data") as folder:
        migration = Migration(vault, store, "host", folder)
        planned = await migration.plan(tmp_path / "auth", Stage())
        found = await migration.run(planned, Stage(), lambda done, total, session: None)
    assert found.counts == {"moved": 1}
    await vault.restore("a", tmp_path / "restored")
    assert taking.difference(source, tmp_path / "restored") is None
    assert login(tmp_path / "restored") == login(source)


def test_profiles_that_differ_in_one_byte_are_told_apart(tmp_path: Path) -> None:
    one, other = (profile(tmp_path / name, size=600_000) for name in ("one", "other"))
    assert taking.difference(one, other) is None
    path = other / "Default/Cookies"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert taking.difference(one, other) == "Default/Cookies"
    path.unlink()
    assert taking.difference(one, other) == "Default/Cookies"
