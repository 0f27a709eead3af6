"""What is in the files of the audit log, from the newest line back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

MAX_LINE = 2**20
"""Bytes; a longer one is passed over."""
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """The beginning of a line: in the file with this inode, which it keeps when it is moved away."""

    inode: int
    offset: int


def newest_first(path: Path, before: Place | None) -> Iterator[tuple[Place, dict[str, object]]]:
    """What stands before this place, or all of it; what is no JSON object is passed over. Blocks. Raises OSError.

    Where the file of the place is gone, nothing is left that is older.
    """
    found = before is None
    for file in _files(path):
        with file.open("rb") as log:
            inode = os.fstat(log.fileno()).st_ino
            end = log.seek(0, os.SEEK_END)
            if not found and before is not None:
                if inode != before.inode:
                    continue
                found, end = True, min(end, before.offset)
            for offset, line in _backwards(log.fileno(), end):
                members = _read(line)
                if members is not None:
                    yield Place(inode, offset), members


def _files(path: Path) -> Iterator[Path]:
    """The newest first. `make_room` in `sluice.observe.log_outputs` names them."""
    number, file = 0, path
    while file.exists():
        yield file
        number += 1
        file = path.with_name(f"{path.name}.{number}")


def _backwards(file: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Lines that end before `end`, the last first, and where each begins."""
    rest, at = b"", end
    while at > 0:
        begin = max(0, at - _PIECE)
        piece = os.pread(file, at - begin, begin) + rest
        first, *lines = piece.split(b"\n")
        offset = begin + len(piece)
        for line in reversed(lines):
            offset -= len(line)
            if line:
                yield offset, line
            offset -= 1
        rest = first if len(first) <= MAX_LINE else b""
        at = begin
    if rest:
        yield 0, rest


def _read(line: bytes) -> dict[str, object] | None:
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return members if isinstance(members, dict) else None
