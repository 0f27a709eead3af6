"""Packed, sealed, opened and written again, a profile is what it was, or nothing at all."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from sessions.profiles import manifest as manifests
from sessions.profiles.errors import Broken, NoProfile, ProfileError, TooLarge, Unsafe, WrongKey
from sessions.profiles.manifest import Manifest, Origin
from sessions.profiles.packing import ChangedMeanwhile, Packing, Unpacking, recover
from sessions.profiles.portable import ProfileFile, backend_of, portable_files, safe_name
from sessions.profiles.sealing import CHUNK, Seals, key_of
from tests.sessions.profiles.making import BLOBS, LEVELDB, OLD, SECRET, as_nobody, contents, profile

SEALS = Seals([SECRET], "s1")
ORIGIN = Origin("Chromium 156.0.8078.79", "leveldb", "host", "sluice")


def packed(folder: Path, seals: Seals = SEALS, generation: int = 1) -> tuple[Manifest, dict[str, bytes]]:
    packing = Packing(folder, portable_files(folder), seals, generation, {})
    chunks = {chunk.name: chunk.sealed for chunk in packing}
    return packing.manifest(1.0, ORIGIN), chunks


def restore(manifest: Manifest, chunks: dict[str, bytes], target: Path, seals: Seals = SEALS) -> None:
    with Unpacking(manifest, seals, target) as unpacking:
        for chunk in manifest.chunks:
            unpacking.write(chunks[chunk.name])
        unpacking.replace()


def test_a_login_comes_back_byte_for_byte_and_nothing_else_does(tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    manifest, chunks = packed(source)
    restore(manifest, chunks, tmp_path / "target")
    found = contents(tmp_path / "target")
    before = contents(source)
    assert found == {name: before[name] for name in found}
    assert set(before) - set(found) == {
        f"{LEVELDB}/LOCK",
        f"{LEVELDB}/LOG",
        "Default/Preferences",
        "Default/Cache/data_0",
        "Local State",
    }
    assert f"{BLOBS}/1/00/2" in found, "an empty file, too"


def test_what_a_browser_did_not_touch_is_not_sealed_again(tmp_path: Path) -> None:
    source = profile(tmp_path / "source", size=9 * 2**20)
    _, chunks = packed(source)
    (source / LEVELDB / "000003.log").write_bytes(b"grown" * 20_000)
    again = Packing(source, portable_files(source), SEALS, 2, dict.fromkeys(chunks, 1))
    assert len(list(again)) == 1
    assert sorted(chunk.of for chunk in again.manifest(2.0, ORIGIN).chunks) == [1] * (len(chunks) - 1) + [2]


def test_a_manifest_that_is_sealed_and_opened_is_the_same(tmp_path: Path) -> None:
    manifest, _ = packed(profile(tmp_path / "source"))
    assert manifests.opened(manifests.sealed(manifest, SEALS), 1, SEALS) == manifest


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_was_changed_or_cut_anywhere_is_never_restored(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("vault")
    manifest, chunks = packed(profile(folder / "source", size=200_000))
    name = data.draw(st.sampled_from(sorted(chunks)))
    sealed = bytearray(chunks[name])
    if data.draw(st.booleans(), label="cut"):
        sealed = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    else:
        sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    target = profile(folder / "target", size=10, seed=2)
    before = contents(target)
    with pytest.raises((Broken, WrongKey)):
        restore(manifest, {**chunks, name: bytes(sealed)}, target)
    assert contents(target) == before
    assert [path.name for path in folder.iterdir()] == ["source", "target"] or len(list(folder.iterdir())) == 2


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_manifest_that_was_changed_or_cut_is_never_opened(data: st.DataObject) -> None:
    sealed = bytearray(manifests.sealed(Manifest(3, 1.0, (), (), ORIGIN), SEALS))
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = sealed[:at] if data.draw(st.booleans()) else sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
    with pytest.raises((Broken, WrongKey)):
        manifests.opened(bytes(changed), 3, SEALS)


def test_chunks_in_another_order_of_another_session_or_generation_are_refused(tmp_path: Path) -> None:
    source = profile(tmp_path / "source", size=5 * 2**20)
    manifest, chunks = packed(source)
    names = [chunk.name for chunk in manifest.chunks]
    swapped = {**chunks, names[1]: chunks[names[2]], names[2]: chunks[names[1]]}
    with pytest.raises(Broken, match="was changed, or is that of another session or generation"):
        restore(manifest, swapped, tmp_path / "target")
    other = Seals([SECRET], "s2")
    with pytest.raises(Broken, match="was changed, or is that of another session or generation"):
        restore(manifest, chunks, tmp_path / "target", other)
    with pytest.raises(Broken, match="generation 2 was changed"):
        manifests.opened(manifests.sealed(manifest, SEALS), 2, SEALS)
    with Unpacking(manifest, SEALS, tmp_path / "target") as unpacking:
        unpacking.write(chunks[names[0]])
        with pytest.raises(Broken, match=f"^{len(names) - 1} chunks are missing$"):
            unpacking.replace()
    assert not (tmp_path / "target").exists()


def test_the_same_content_of_two_sessions_has_no_common_name(tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    assert not packed(source)[1].keys() & packed(source, Seals([SECRET], "s2"))[1].keys()


def test_old_keys_open_and_the_new_one_seals(tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    manifest, chunks = packed(source, Seals([OLD], "s1"))
    both = Seals([SECRET, OLD], "s1")
    restore(manifest, chunks, tmp_path / "target", both)
    assert {key_of(sealed) for sealed in packed(source, both)[1].values()} == {both.current}
    with pytest.raises(WrongKey, match="which sessions.vault.key does not name: name the old key behind the new one"):
        restore(manifest, chunks, tmp_path / "target", SEALS)


def test_a_crash_between_the_two_renames_leaves_the_old_profile(tmp_path: Path) -> None:
    target = profile(tmp_path / "target")
    before = contents(target)
    target.rename(tmp_path / "target.sluice-replaced")
    (tmp_path / "target.sluice-restoring").mkdir()
    recover(target)
    assert contents(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_crash_after_both_renames_keeps_the_new_profile(tmp_path: Path) -> None:
    new = contents(profile(tmp_path / "target"))
    profile(tmp_path / "target.sluice-replaced", seed=2)
    recover(tmp_path / "target")
    assert contents(tmp_path / "target") == new
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_file_that_becomes_shorter_while_it_is_read_is_told(tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    files = portable_files(source)
    (source / LEVELDB / "000005.ldb").write_bytes(b"")
    with pytest.raises(ChangedMeanwhile, match=r"000005\.ldb became shorter while it was read: its browser runs"):
        list(Packing(source, files, SEALS, 1, {}))


def test_a_profile_of_any_size_takes_few_chunks_of_memory(tmp_path: Path) -> None:
    source = profile(tmp_path / "source", size=40 * 2**20)
    tracemalloc.start()
    try:
        packing = Packing(source, portable_files(source), SEALS, 1, {})
        with Unpacking(_whole(source), SEALS, tmp_path / "target") as unpacking:
            for chunk in packing:
                unpacking.write(chunk.sealed)
            unpacking.replace()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 10 * CHUNK


def _whole(source: Path) -> Manifest:
    packing = Packing(source, portable_files(source), SEALS, 1, {})
    for _ in packing:
        pass
    return packing.manifest(1.0, ORIGIN)


# --- what is wrong with a folder


def test_a_folder_without_a_login_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoProfile, match="has no Default/IndexedDB: no page has logged in there yet, or it is another"):
        portable_files(tmp_path)


@pytest.mark.parametrize("folder", ["Default", "Default/IndexedDB", "Default/Local Storage"])
def test_a_folder_that_is_a_symbolic_link_is_refused(tmp_path: Path, folder: str) -> None:
    source = profile(tmp_path / "source", size=10)
    (source / folder).rename(tmp_path / "elsewhere")
    (source / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unsafe, match=f"{folder} is a symbolic link, which no browser makes; remove it"):
        portable_files(source)


def test_a_folder_that_cannot_be_read_is_an_error(short_folder: Path) -> None:
    source = profile(short_folder / "source", size=10)
    (source / BLOBS / "1").chmod(0)
    with as_nobody(short_folder), pytest.raises(PermissionError):
        portable_files(source)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_symbolic_link_is_refused(tmp_path: Path, kind: str) -> None:
    source = profile(tmp_path / "source")
    (source / LEVELDB / "link").symlink_to("/etc/passwd" if kind == "file" else "/etc")
    with pytest.raises(Unsafe, match="is a symbolic link, which no browser makes; remove it"):
        portable_files(source)


def test_a_profile_that_is_too_large_is_told(tmp_path: Path) -> None:
    source = profile(tmp_path / "source", size=10)
    with (source / LEVELDB / "000009.ldb").open("wb") as file:
        file.truncate(513 * 2**20)
    with pytest.raises(TooLarge, match="has 513 MiB; 512 MiB are kept at most"):
        portable_files(source)


@pytest.mark.parametrize(
    "name",
    [
        "Default/IndexedDB/../../../etc/passwd",
        "/etc/passwd",
        "Default/IndexedDB//x",
        "Default/IndexedDB/./x",
        "Default/IndexedDB/",
        "Default/Preferences",
        "Default/IndexedDB/a\\b",
        "Default/IndexedDB/a\nb",
        "Default/IndexedDB/a\0b",
        "Default/IndexedDB",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(Unsafe, match="is no file of a login"):
        safe_name(name)


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(Unsafe, match="^a file's name is over 1024 bytes$"):
        safe_name("Default/IndexedDB/" + "x" * 1024)


def test_the_backend_of_indexeddb_is_told(tmp_path: Path) -> None:
    assert backend_of(profile(tmp_path / "a")) == "leveldb"
    (tmp_path / "b/Default/IndexedDB/https_web.whatsapp.com_0").mkdir(parents=True)
    assert backend_of(tmp_path / "b") == "sqlite"
    assert backend_of(tmp_path / "c") == "none"


@pytest.mark.parametrize("files", [[ProfileFile("Default/IndexedDB/a", 5)]])
def test_a_file_that_is_gone_is_an_error_of_the_system(tmp_path: Path, files: list[ProfileFile]) -> None:
    with pytest.raises((OSError, ProfileError)):
        list(Packing(tmp_path, files, SEALS, 1, {}))
