"""A profile with files of all kinds, small and large, without a browser."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SECRET = b"a secret of thirty-two bytes, or so"
OLD = b"an older secret of thirty-two bytes"
LEVELDB = "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb"
BLOBS = "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.blob"


def profile(folder: Path, *, size: int = 3 * 2**20 + 17, seed: int = 1) -> Path:
    chance = random.Random(seed)
    files = {
        f"{LEVELDB}/CURRENT": b"MANIFEST-000001\n",
        f"{LEVELDB}/MANIFEST-000001": manifest({5: size}, log=3),
        f"{LEVELDB}/000003.log": chance.randbytes(70_000),
        f"{LEVELDB}/000005.ldb": chance.randbytes(size),
        f"{LEVELDB}/LOCK": b"",
        f"{LEVELDB}/LOG": b"started\n",
        f"{BLOBS}/1/00/1": chance.randbytes(200_000),
        f"{BLOBS}/1/00/2": b"",
        "Default/Local Storage/leveldb/000003.log": b"last-wid-md" * 40,
        "Default/Local Storage/leveldb/CURRENT": b"MANIFEST-000001\n",
        "Default/Local Storage/leveldb/MANIFEST-000001": manifest(),
        "Default/Cookies": chance.randbytes(20_480),
        "Default/Preferences": b"{}",
        "Default/Cache/data_0": chance.randbytes(5_000),
        "Local State": b"{}",
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def manifest(tables: Mapping[int, int] | None = None, log: int = 0) -> bytes:
    """Of a LevelDB database with tables of these sizes, by their numbers."""
    edit = b"\1" + _text(b"idb_cmp1") + b"\2" + varint(log)
    for number, size in (tables or {}).items():
        edit += b"\7\0" + varint(number) + varint(size) + _text(b"first") + _text(b"last")
    return manifest_record(edit)


def manifest_record(content: bytes, kind: int = 1) -> bytes:
    """`kind`: 1 whole, 2 its first part, 3 one between, 4 the last."""
    return bytes(4) + len(content).to_bytes(2, "little") + bytes([kind]) + content


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([value])


def _text(value: bytes) -> bytes:
    return varint(len(value)) + value


def contents(folder: Path) -> dict[str, bytes]:
    """All files below it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Root may read and write everything; in here it may not. Anybody else stays who they are."""
    if os.geteuid() != 0:
        yield
        return
    folder.chmod(0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
