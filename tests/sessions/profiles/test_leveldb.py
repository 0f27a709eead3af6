"""A copy of a LevelDB database that lacks a file is told from a whole one, by what its manifest names."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sessions.profiles.errors import Broken
from sessions.profiles.leveldb import check_databases, trim_logs
from sessions.profiles.leveldb_manifest import LiveFiles, live_files
from tests.browser.running import make
from tests.sessions.profiles.making import LEVELDB, manifest, manifest_record, profile, varint

_COPIED = "it was copied while its browser wrote it"


def broken(folder: Path) -> str:
    with pytest.raises(Broken) as raised:
        check_databases(folder)
    return str(raised.value)


def deleted(number: int) -> bytes:
    return manifest_record(b"\6\0" + varint(number))


def test_a_whole_profile_is_taken(tmp_path: Path) -> None:
    check_databases(profile(tmp_path, size=1000))


def test_a_table_that_is_missing_or_short_is_told(tmp_path: Path) -> None:
    table = profile(tmp_path, size=1000) / LEVELDB / "000005.ldb"
    told = f"{LEVELDB} has no whole 000005.ldb, which its MANIFEST-000001 names: {_COPIED}"
    table.write_bytes(bytes(999))
    assert broken(tmp_path) == told
    table.unlink()
    assert broken(tmp_path) == told
    table.with_suffix(".sst").write_bytes(bytes(1000))
    check_databases(tmp_path)


def test_a_log_that_is_missing_is_told(tmp_path: Path) -> None:
    log = profile(tmp_path, size=1000) / LEVELDB / "000003.log"
    log.rename(log.with_name("000007.log"))
    assert broken(tmp_path) == f"{LEVELDB} has no whole 000003.log, which its MANIFEST-000001 names: {_COPIED}"
    log.with_name("000007.log").rename(log)
    (tmp_path / "Default/Local Storage/leveldb/000003.log").unlink()
    assert broken(tmp_path).startswith("Default/Local Storage/leveldb has no whole *.log, ")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"x", "it has no edit"),
        (manifest()[:-1], "it has no edit"),
        (b"\xff" * 100, "a record is longer than its block, or of no known kind"),
        (manifest_record(b"\x63"), "an edit has a field 99, which LevelDB does not write"),
        (manifest_record(b"\1\x7fidb"), "a text is cut"),
        (manifest_record(b"\2\x80"), "a number is cut"),
        (manifest_record(b"\2" + b"\x80" * 11), "a number is cut"),
    ],
)
def test_what_is_no_manifest_is_told(content: bytes, why: str, tmp_path: Path) -> None:
    (profile(tmp_path, size=10) / LEVELDB / "MANIFEST-000001").write_bytes(content)
    assert broken(tmp_path) == f"{LEVELDB}/MANIFEST-000001 is no manifest of LevelDB: {why}"


def test_later_edits_add_tables_and_take_them_away() -> None:
    edits = manifest({5: 10, 7: 300}, log=3) + deleted(5) + manifest({9: 70_000}, log=8)
    assert live_files(edits) == LiveFiles({7: 300, 9: 70_000}, log=8)


def test_an_edit_that_is_cut_at_the_end_does_not_count_yet() -> None:
    assert live_files(manifest({5: 10}) + manifest({9: 1})[:-1]) == LiveFiles({5: 10})


def test_a_record_may_lie_in_several_blocks() -> None:
    pad = b"\1" + varint(32_768 - 7 - 4) + bytes(32_768 - 7 - 4)  # fills a block to its end
    assert len(manifest_record(pad)) == 32_768
    parts = (b"\7\0\5", b"\x0a", b"\1a\1b")
    split = b"".join(manifest_record(part, kind) for part, kind in zip(parts, (2, 3, 4), strict=True))
    assert live_files(manifest_record(pad) + split) == LiveFiles({5: 10})
    short = b"\1" + varint(32_768 - 12 - 4) + bytes(32_768 - 12 - 4)  # and 5 bytes less: no head fits there
    assert live_files(manifest_record(short) + bytes(5) + split) == LiveFiles({5: 10})


def a_log(tmp_path: Path, content: bytes) -> Path:
    log = profile(tmp_path, size=10) / LEVELDB / "000003.log"
    log.write_bytes(content)
    return log


@pytest.mark.parametrize("cut", [1, 6, 7, 8, 99])
def test_a_record_that_is_cut_at_the_end_of_a_log_is_taken_away(cut: int, tmp_path: Path) -> None:
    """Chromium would write behind it."""
    whole = manifest_record(b"a" * 100) + manifest_record(b"b" * 100)
    log = a_log(tmp_path, whole + manifest_record(b"c" * 100)[:-cut])
    trim_logs(tmp_path)
    assert log.read_bytes() == whole
    trim_logs(tmp_path)
    assert log.read_bytes() == whole


def test_a_record_whose_last_part_is_missing_is_taken_away(tmp_path: Path) -> None:
    first = manifest_record(b"a" * 100)
    begun = manifest_record(bytes(32_768 - 107 - 7), 2)
    log = a_log(tmp_path, first + begun)
    trim_logs(tmp_path)
    assert log.read_bytes() == first
    log.write_bytes(first + begun + manifest_record(b"end", 4))
    trim_logs(tmp_path)
    assert log.read_bytes() == first + begun + manifest_record(b"end", 4)
    log.write_bytes(begun[:50])
    trim_logs(tmp_path)
    assert log.read_bytes() == b""


def test_a_log_that_was_written_behind_a_cut_is_told(tmp_path: Path) -> None:
    a_log(tmp_path, manifest_record(b"a" * 100) + manifest_record(b"b" * 100)[:50] + manifest_record(b"\xff" * 500))
    with pytest.raises(Broken, match="000003.log is broken: a record of it was cut, and others lie behind it"):
        trim_logs(tmp_path)


@given(st.binary(max_size=300))
def test_whatever_lies_there_is_read_to_its_end(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        live_files(content)


@pytest.mark.slow
@pytest.mark.anyio
async def test_of_a_real_profile_no_table_and_no_log_may_be_missing(tmp_path: Path) -> None:
    folder = await make(tmp_path / "profile", size=10) / LEVELDB
    check_databases(tmp_path / "profile")
    files = [*folder.glob("*.ldb"), *folder.glob("*.log")]
    assert len(files) >= 3
    for file in files:
        file.rename(tmp_path / "away")
        assert f"has no whole {file.name}" in broken(tmp_path / "profile")
        (tmp_path / "away").rename(file)
    check_databases(tmp_path / "profile")
