"""Which files a LevelDB database consists of, by its manifest: without one of them it cannot be opened, or has
lost what was written last.

A manifest is a log of edits (LevelDB's doc/log_format.md): blocks of 32 KiB, in them records of checksum (4 bytes),
length (2), kind (1) and content; each edit is fields, a tag before each (db/version_edit.cc).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

BLOCK = 32 * 1024
_HEADER = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_COMPARATOR, _LOG, _NEXT_FILE, _COMPACT_POINTER, _DELETED_FILE, _NEW_FILE = 1, 2, 3, 5, 6, 7
_NUMBERS = (_NEXT_FILE, 4, 9)


@dataclass
class LiveFiles:
    tables: dict[int, int] = field(default_factory=dict)
    """The size in bytes of each, by its number."""
    log: int = 0
    """The number of the first log with what is in no table yet; 0: whichever is there."""


def live_files(manifest: bytes) -> LiveFiles:
    """What is cut at its end was not written yet, and does not count. Raises ValueError where it is no manifest."""
    live, edits = LiveFiles(), 0
    for record in _records(manifest):
        _apply(record, live)
        edits += 1
    if not edits:
        raise ValueError("it has no edit")
    return live


def _records(data: bytes) -> Iterator[bytes]:
    parts: list[bytes] = []
    at = 0
    while at + _HEADER <= len(data):
        left = BLOCK - at % BLOCK
        if left < _HEADER:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        end = at + _HEADER + length
        if length > left - _HEADER or kind > _LAST:
            raise ValueError("a record is longer than its block, or of no known kind")
        if end > len(data) or not kind:
            return
        if kind in (_FULL, _FIRST):
            parts = []
        parts.append(data[at + _HEADER : end])
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
        at = end


def begins_a_log(block: bytes) -> bool:
    """Its first record is one, be it cut or not."""
    return len(block) >= _HEADER and block[6] in (_FULL, _FIRST) and block[4] + 256 * block[5] <= BLOCK - _HEADER


def whole_records(block: bytes) -> tuple[int, bool]:
    """Of a block of a log: where the last record ends that is whole with it (0: none does), and whether nothing in the
    block is cut. Raises ValueError for what is no record."""
    at = whole = 0
    while len(block) - at >= _HEADER:
        length, kind = int.from_bytes(block[at + 4 : at + 6], "little"), block[at + 6]
        if kind > _LAST or at + _HEADER + length > BLOCK:
            raise ValueError("a record is longer than its block, or of no known kind")
        at += _HEADER + length
        if not kind or at > len(block):
            return whole, False
        if kind in (_FULL, _LAST):
            whole = at
    return whole, len(block) == BLOCK


def _apply(record: bytes, live: LiveFiles) -> None:
    gone: list[int] = []
    new: dict[int, int] = {}
    fields = _Fields(record)
    while fields.left():
        tag = fields.number()
        if tag == _LOG:
            live.log = fields.number()
        elif tag in _NUMBERS:
            fields.number()
        elif tag == _COMPARATOR:
            fields.text()
        elif tag == _COMPACT_POINTER:
            fields.number()
            fields.text()
        elif tag == _DELETED_FILE:
            fields.number()
            gone.append(fields.number())
        elif tag == _NEW_FILE:
            fields.number()
            number = fields.number()
            new[number] = fields.number()
            fields.text()
            fields.text()
        else:
            raise ValueError(f"an edit has a field {tag}, which LevelDB does not write")
    for number in gone:
        live.tables.pop(number, None)
    live.tables.update(new)


class _Fields:
    def __init__(self, record: bytes) -> None:
        self._record = record
        self._at = 0

    def left(self) -> bool:
        return self._at < len(self._record)

    def number(self) -> int:
        """A varint: seven bits in each byte, the lowest first."""
        value = 0
        for shift in range(0, 70, 7):
            if not self.left():
                break
            byte = self._record[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise ValueError("a number is cut")

    def text(self) -> None:
        length = self.number()
        self._at += length
        if self._at > len(self._record):
            raise ValueError("a text is cut")
