"""The file of a backup: whole or not there, its owner's only, and never believed when a bit of it is another."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from sluice.backup.file import MAGIC, BackupError, Header, Trailer, Writer, known, parts

HEADER = Header("0.1.0", 1, "valkey 8.1.3", 1_900_000_000_000, "store")
TRAILER = Trailer(1_900_000_000_500, {"events": 2}, 3, 4, 5)


def write(path: Path, *, replace: bool = False) -> bytes:
    with Writer(path, replace=replace) as out:
        out.header(HEADER)
        out.key(b"sl:{00}:seq", -1, b"\x00dump")
        out.fields(b"sl:{00}:events", [b"evt_1", b"record", b"evt_2", b""])
        out.gone(b"sl:{00}:events", [b"evt_1"])
        out.end(TRAILER)
    return path.read_bytes()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    content = write(path)
    found = known(path)
    assert (found.header, found.trailer, found.bytes) == (HEADER, TRAILER, len(content))
    assert [(part.kind, list(part.texts)) for part in parts(path)][1:-1] == [
        (b"K", [b"sl:{00}:seq", b"-1", b"\x00dump"]),
        (b"F", [b"sl:{00}:events", b"evt_1", b"record", b"evt_2", b""]),
        (b"G", [b"sl:{00}:events", b"evt_1"]),
    ]


def test_it_is_for_its_owner_only_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write(tmp_path / "backup")
    finally:
        os.umask(before)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["backup"]


def test_one_that_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_bytes(b"yesterday's")
    with pytest.raises(BackupError) as refused:
        write(path)
    assert str(refused.value) == f"{path} is there already; name another file, or say --replace"
    assert path.read_bytes() == b"yesterday's"
    write(path, replace=True)
    assert known(path).trailer == TRAILER


def test_one_that_appears_meanwhile_stays_too(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    with Writer(path, replace=False) as out:
        out.header(HEADER)
        path.write_bytes(b"another's")
        with pytest.raises(BackupError, match="is there already"):
            out.end(TRAILER)
    assert (os.listdir(tmp_path), path.read_bytes()) == (["backup"], b"another's")


def test_one_that_is_broken_off_leaves_nothing_and_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    before = write(path)
    with Writer(path, replace=True) as out:
        out.header(HEADER)
    assert (os.listdir(tmp_path), path.read_bytes()) == (["backup"], before)


def test_what_a_killed_one_has_left_goes_with_the_next_and_what_another_one_writes_stays(tmp_path: Path) -> None:
    left = tmp_path / ".backup.killed.partial"
    left.write_bytes(b"half of it")
    with Writer(tmp_path / "backup", replace=True) as out:
        (own,) = os.listdir(tmp_path)
        out.header(HEADER)
        write(tmp_path / "backup")
        assert sorted(os.listdir(tmp_path)) == sorted([own, "backup"])
        assert (tmp_path / own).stat().st_mode & 0o777 == 0o600
        out.end(TRAILER)
    assert os.listdir(tmp_path) == ["backup"]


def why_unwritten(path: Path) -> str:
    with pytest.raises(BackupError) as refused:
        write(path)
    return str(refused.value)


def test_where_it_cannot_be_written_it_says_why(tmp_path: Path) -> None:
    cure = "name a file where this user may write and there is room"
    nowhere = tmp_path / "nowhere" / "backup"
    assert why_unwritten(nowhere) == f"{nowhere} cannot be written (no such file or directory); {cure}"
    assert why_unwritten(tmp_path) == f"{tmp_path} is a folder; name a file"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_disk_that_is_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "backup"
    full = lambda *_: (os.open("/dev/full", os.O_WRONLY), str(tmp_path / "partial"))  # noqa: E731
    monkeypatch.setattr(tempfile, "mkstemp", full)
    assert why_unwritten(path) == (
        f"{path} cannot be written (no space left on device); name a file where this user may write and there is room"
    )


def why_unread(path: Path) -> str:
    with pytest.raises(BackupError) as refused:
        known(path)
    return str(refused.value)


def test_what_is_no_backup_is_said(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    for content in (b"", b"PK\x03\x04", b"sluice", b"version: 1\n", MAGIC):
        path.write_bytes(content)
        assert why_unread(path) == f"{path} is no backup: it does not begin as one that `sluice backup` has written"
    assert why_unread(tmp_path / "none") == f"{tmp_path / 'none'} cannot be read (no such file or directory)"
    assert why_unread(tmp_path) == f"{tmp_path} cannot be read (is a directory)"


def test_a_later_form_is_said(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_bytes(write(path).replace(MAGIC, b"sluice backup 2", 1))
    assert why_unread(path) == (
        f"{path} was written by a later release, in a form that this one does not know; install it"
    )


def test_a_file_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    whole = write(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(BackupError):
            known(path)
    path.write_bytes(whole[:-1])
    begin = whole.rindex(b"T" + b"\0\0\0\0")
    assert why_unread(path) == (
        f"{path} was cut, or is not as it was written: what begins at byte {begin} does not end; nothing of it is "
        "restored; take another backup"
    )


def test_a_file_of_which_any_bit_is_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    whole = write(path)
    for at in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        with pytest.raises(BackupError):
            known(path)
    path.write_bytes(whole.replace(b"record", b"Record"))
    begin = whole.index(b"F" + b"\0\0\0\0")
    assert why_unread(path) == (
        f"{path} is not as it was written: what begins at byte {begin} does not have its checksum; nothing of it is "
        "restored; take another backup"
    )


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    path.write_bytes(write(path) + b"more")
    assert why_unread(path) == (
        f"{path} is not as it was written: 4 bytes follow its end; nothing of it is restored; take another backup"
    )


@given(st.data())
def test_parts_that_were_moved_taken_out_or_put_in_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("parts") / "backup"
    whole = write(path)
    ends = [len(MAGIC) + 1]
    while ends[-1] < len(whole):
        ends.append(ends[-1] + 9 + int.from_bytes(whole[ends[-1] + 1 : ends[-1] + 9], "big") + 32)
    pieces = [whole[begin:end] for begin, end in itertools.pairwise(ends)]
    chosen = data.draw(st.lists(st.sampled_from(pieces), max_size=2 * len(pieces)))
    if chosen == pieces:
        return
    path.write_bytes(whole[: ends[0]] + b"".join(chosen))
    with pytest.raises(BackupError):
        known(path)
