"""A profile with files of all kinds, small and large, without a browser."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
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
        f"{LEVELDB}/MANIFEST-000001": chance.randbytes(300),
        f"{LEVELDB}/000003.log": chance.randbytes(70_000),
        f"{LEVELDB}/000005.ldb": chance.randbytes(size),
        f"{LEVELDB}/LOCK": b"",
        f"{LEVELDB}/LOG": b"started\n",
        f"{BLOBS}/1/00/1": chance.randbytes(200_000),
        f"{BLOBS}/1/00/2": b"",
        "Default/Local Storage/leveldb/000003.log": b"last-wid-md" * 40,
        "Default/Local Storage/leveldb/CURRENT": b"MANIFEST-000001\n",
        "Default/Local Storage/leveldb/MANIFEST-000001": chance.randbytes(60),
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
