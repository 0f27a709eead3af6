"""Zip files of RemoteAuth: what it makes is taken, what it needs is written, and nothing else gets in."""

from __future__ import annotations

import io
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sessions.profiles import portable, zips
from sessions.profiles.errors import Broken, NoProfile, ProfileError, TooLarge, Unsafe
from tests.sessions.profiles.making import BLOBS, LEVELDB, contents, profile


def zipped(path: Path, files: dict[str, bytes], **about: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = about.get("attributes", 0)
            archive.writestr(entry, content)
    return path


def test_a_profile_that_is_zipped_comes_back(tmp_path: Path) -> None:
    source = profile(tmp_path / "source")
    zips.write(source, tmp_path / "a.zip")
    zips.extract(tmp_path / "a.zip", tmp_path / "target")
    before = contents(source)
    found = contents(tmp_path / "target")
    assert found == {name: before[name] for name in found}
    assert {name.split("/")[1] for name in found} == {"IndexedDB", "Local Storage"}


def test_each_size_stands_before_the_content(tmp_path: Path) -> None:
    zips.write(profile(tmp_path / "source"), tmp_path / "a.zip")
    data = (tmp_path / "a.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        for entry in archive.infolist():
            flags, _, _, _, _, packed, size = struct.unpack_from("<HHHHLLL", data, entry.header_offset + 6)
            assert not flags & 0x8, "no data descriptor"
            assert (packed, size) == (entry.compress_size, entry.file_size)


def test_a_zip_with_data_descriptors_as_archiver_makes_it_is_taken(tmp_path: Path) -> None:
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Default/IndexedDB/", b"")
        archive.writestr(f"{LEVELDB}/CURRENT", b"MANIFEST-000001\n")
    (tmp_path / "a.zip").write_bytes(stream.data)
    assert [file.name for file in zips.extract(tmp_path / "a.zip", tmp_path / "target")] == [f"{LEVELDB}/CURRENT"]


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "/etc/passwd",
        "Default/IndexedDB/../../../up",
        "Default/Preferences",
        "Default/IndexedDB/a\\..\\b",
        "../RemoteAuth-ab/x",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    made = zipped(tmp_path / "a.zip", {f"{LEVELDB}/CURRENT": b"x", name: b"y"})
    with pytest.raises(Unsafe, match="is no file of a login"):
        zips.extract(made, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    made = zipped(tmp_path / "a.zip", {f"{LEVELDB}/CURRENT": b"/etc/passwd"}, attributes=(stat.S_IFLNK | 0o777) << 16)
    with pytest.raises(Unsafe, match="in the zip is no file"):
        zips.extract(made, tmp_path / "target")


def test_a_zip_bomb_is_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = zipped(tmp_path / "a.zip", {f"{LEVELDB}/CURRENT": bytes(3 * 2**20)})
    assert made.stat().st_size < 10_000
    monkeypatch.setattr(zips, "MAX_PROFILE", 2 * 2**20)
    with pytest.raises(TooLarge, match="would have 3 MiB unpacked; 2 MiB are taken at most"):
        zips.extract(made, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_directory_that_would_take_much_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(5_000):
            archive.writestr(f"{BLOBS}/{number:05}{'x' * 900}", b"")
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="^the directory of the zip has over 2 MiB, more than that of a profile$"):
            zips.extract(tmp_path / "a.zip", tmp_path / "target")
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def lying(path: Path, size: int) -> None:
    """The central directory says another size than there is."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<L", data, at + 24, size)
    path.write_bytes(data)


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_an_entry_that_lies_about_its_size_is_refused(tmp_path: Path, size: int) -> None:
    made = zipped(tmp_path / "a.zip", {f"{LEVELDB}/CURRENT": bytes(1_000_000)})
    lying(made, size)
    with pytest.raises(ProfileError):
        zips.extract(made, tmp_path / "target")
    written = tmp_path / "target" / LEVELDB / "CURRENT"
    assert not written.exists() or written.stat().st_size <= 1_000_000


def test_a_zip_without_a_login_is_told(tmp_path: Path) -> None:
    made = zipped(tmp_path / "a.zip", {"Default/Local Storage/leveldb/CURRENT": b"x"})
    with pytest.raises(NoProfile, match="^the zip has no Default/IndexedDB: no page had logged in when it was made$"):
        zips.extract(made, tmp_path / "target")


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{LEVELDB}/CURRENT", b"x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(f"{LEVELDB}/CURRENT", b"y")
    with pytest.raises(Unsafe, match="^the zip has a name twice$"):
        zips.extract(tmp_path / "a.zip", tmp_path / "target")


@pytest.mark.parametrize("cut", [lambda data: data[:-1], lambda data: data[:100], lambda data: b""])
def test_a_zip_that_is_cut_is_told(tmp_path: Path, cut: Callable[[bytes], bytes]) -> None:
    zips.write(profile(tmp_path / "source"), tmp_path / "a.zip")
    (tmp_path / "a.zip").write_bytes(cut((tmp_path / "a.zip").read_bytes()))
    with pytest.raises(Broken, match="^the zip is cut or broken: "):
        zips.extract(tmp_path / "a.zip", tmp_path / "target")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_zip_with_a_flipped_bit_is_refused_or_makes_no_difference(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("zips")
    source = profile(folder / "source", size=1000)
    zips.write(source, folder / "a.zip")
    changed = bytearray((folder / "a.zip").read_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "a.zip").write_bytes(changed)
    before = contents(source)
    try:
        zips.extract(folder / "a.zip", folder / "target")
    except ProfileError:
        return
    for name, content in contents(folder / "target").items():
        portable.safe_name(name)
        assert before.get(name, content) == content
