"""The file of a backup: written once from its beginning to its end, and believed only as a whole.

    MAGIC "\\n", then parts, of which each is
        kind     1 byte
        length   8 bytes, big endian, of what follows
        content  of that length
        digest   32 bytes: SHA-256 of the digest before (of the first part: of MAGIC), kind, length and content

The digests are a chain, so a part that was changed, taken out, put in or moved is found, and the one of the last part,
the trailer, is of all that stands before it. A file without a trailer was cut. The content of a part is a number of
texts, each behind its length (4 bytes): of a key its name, when it expires (ms since 1970, -1 never) and its DUMP; of
fields the name of their hash, then field and value in turns; of what is gone the name of the hash, then the fields that
it had lost by the moment it is of. Header and trailer are JSON.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson

MAGIC = b"sluice backup 1"
_FAMILY = b"sluice backup "
HEADER, KEY, FIELDS, GONE, TRAILER = b"H", b"K", b"F", b"G", b"T"
_HEAD = struct.Struct(">cQ")
_DIGEST = 32
_LENGTH = struct.Struct(">I")
_PARTIAL = ".partial"


class BackupError(Exception):
    """A backup cannot be made or restored; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Header:
    version: str
    """Of Sluice."""
    layout: int
    store: str
    """Such as `valkey 8.1.3`."""
    at: int
    """When it was begun, in ms since 1970 by the store's clock."""
    place: str
    """Where the chunks of logins lie: `store`, `folder`, `bucket`; empty: there is no vault."""


@dataclass(frozen=True, slots=True)
class Trailer:
    at: int
    """When it was done."""
    keys: dict[str, int]
    """How many there are of each family."""
    events: int
    sessions: int
    logins: int


@dataclass(frozen=True, slots=True)
class Part:
    kind: bytes
    texts: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Known:
    """What a file that is whole says of itself."""

    header: Header
    trailer: Trailer
    bytes: int


class Writer:
    """Writes beside the file, for its owner only, and takes its place when it has ended: there is a whole one or none.

    Raises BackupError when it is entered or ended.
    """

    def __init__(self, path: Path, *, replace: bool) -> None:
        self._path = path
        self._replace = replace
        self._digest = hashlib.sha256(MAGIC).digest()
        self.bytes = 0

    def __enter__(self) -> Self:
        if self._path.is_dir():
            raise BackupError(f"{self._path} is a folder; name a file")
        self._refuse_existing()
        try:
            _sweep(self._path)
            number, name = tempfile.mkstemp(_PARTIAL, f".{self._path.name}.", self._path.parent)  # with mode 0600
            fcntl.flock(number, fcntl.LOCK_EX)
        except OSError as error:
            raise _unwritten(self._path, error) from None
        self._temporary, self._file = Path(name), os.fdopen(number, "wb")
        self._write(MAGIC + b"\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """What was not ended is taken away."""
        with contextlib.suppress(OSError):  # of what was not written, which was told
            self._file.close()
        self._temporary.unlink(missing_ok=True)

    def header(self, header: Header) -> None:
        self._part(HEADER, [orjson.dumps(header)])

    def key(self, name: bytes, expires: int, dump: bytes) -> None:
        self._part(KEY, [name, b"%d" % expires, dump])

    def fields(self, name: bytes, pairs: Sequence[bytes]) -> None:
        """Field and value in turns."""
        self._part(FIELDS, [name, *pairs])

    def gone(self, name: bytes, fields: Sequence[bytes]) -> None:
        """They were written, and the hash has them no more."""
        self._part(GONE, [name, *fields])

    def end(self, trailer: Trailer) -> None:
        """When it returns, the file is there as a whole, and a crash of the machine does not lose it."""
        self._part(TRAILER, [orjson.dumps(trailer)])
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._refuse_existing()
            os.replace(self._temporary, self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise _unwritten(self._path, error) from None

    def _refuse_existing(self) -> None:
        if not self._replace and self._path.exists():
            raise BackupError(f"{self._path} is there already; name another file, or say --replace")

    def _part(self, kind: bytes, texts: Sequence[bytes]) -> None:
        content = b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
        head = _HEAD.pack(kind, len(content))
        self._digest = hashlib.sha256(self._digest + head + content).digest()
        self._write(head + content + self._digest)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise _unwritten(self._path, error) from None
        self.bytes += len(data)


def _sweep(path: Path) -> None:
    """What one that was killed has left beside it; another one that is at work has locked its own."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_PARTIAL}"):
        with contextlib.suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


def _unwritten(path: Path, error: OSError) -> BackupError:
    why = (error.strerror or str(error)).lower()
    return BackupError(f"{path} cannot be written ({why}); name a file where this user may write and there is room")


def known(path: Path) -> Known:
    """Reads the whole file. Raises BackupError unless it is one, and exactly as it was written."""
    header: Header | None = None
    for part in parts(path):
        if part.kind == HEADER:
            header = Header(**orjson.loads(part.texts[0]))
        last = part
    assert header is not None
    return Known(header, Trailer(**orjson.loads(last.texts[0])), path.stat().st_size)


def parts(path: Path) -> Iterator[Part]:
    """Each is checked before it is given out; the last one is the trailer. Raises BackupError."""
    try:
        with path.open("rb") as file:
            yield from _parts(path, file)
    except OSError as error:
        raise BackupError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from None


def _parts(path: Path, file: BinaryIO) -> Iterator[Part]:
    _refuse_others(path, file.readline(len(MAGIC) + 1))
    left = os.fstat(file.fileno()).st_size - file.tell()
    digest, kind = hashlib.sha256(MAGIC).digest(), b""
    while kind != TRAILER:
        at, head = file.tell(), file.read(_HEAD.size)
        left -= len(head)
        if len(head) < _HEAD.size:
            raise _cut(path, at)
        kind, length = _HEAD.unpack(head)
        if length + _DIGEST > left:
            raise _cut(path, at)
        content, said = file.read(length), file.read(_DIGEST)
        left -= length + _DIGEST
        digest = hashlib.sha256(digest + head + content).digest()
        if said != digest:
            raise BackupError(
                f"{path} is not as it was written: what begins at byte {at:,} does not have its checksum; nothing of "
                "it is restored; take another backup"
            )
        yield Part(kind, _texts(content))
    if left:
        raise BackupError(
            f"{path} is not as it was written: {left:,} bytes follow its end; nothing of it is restored; take another "
            "backup"
        )


def _refuse_others(path: Path, begin: bytes) -> None:
    if begin == MAGIC + b"\n":
        return
    if begin.startswith(_FAMILY) and not begin.startswith(MAGIC) and begin[len(_FAMILY) : len(_FAMILY) + 1].isdigit():
        raise BackupError(f"{path} was written by a later release, in a form that this one does not know; install it")
    raise BackupError(f"{path} is no backup: it does not begin as one that `sluice backup` has written")


def _cut(path: Path, at: int) -> BackupError:
    return BackupError(
        f"{path} was cut, or is not as it was written: what begins at byte {at:,} does not end; nothing of it is "
        "restored; take another backup"
    )


def _texts(content: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        found.append(content[at : at + length])
        at += length
    return found
