"""From a kept generation to the bytes of a zip: restored, checked, zipped, and sent in pieces."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from sessions.profiles import zips
from sessions.profiles.generations import Profile
from sessions.profiles.prepared import PreparedZip
from sessions.profiles.threads import in_thread
from sessions.profiles.transfers import Transfers
from sessions.profiles.vault import NothingKept, Vault

_PIECE = 256 * 1024


async def prepare(vault: Vault, known: Profile, transfers: Transfers) -> PreparedZip | NothingKept:
    """The newest generation that can be restored. Raises NoneReadable, Refusal 503, OSError, StoreAway, StoreRefused,
    ContentsAway."""
    async with transfers.working(), transfers.folder() as folder:
        profile = folder / "profile"
        restored = await vault.restore(known.session, profile, known)
        if isinstance(restored, NothingKept):
            return restored
        file = await in_thread(transfers.file, restored.generation.size)
        try:
            size, digest = await in_thread(_zip, profile, file)
        except BaseException:
            file.close()
            raise
        newest = max(known.generations[0].number, restored.generation.number)
        return PreparedZip(restored.generation, newest, restored.skipped, file, size, digest)


def _zip(profile: Path, file: IO[bytes]) -> tuple[int, str]:
    zips.write(profile, file)
    file.flush()
    file.seek(0)
    hashed = hashlib.sha256()
    while piece := file.read(_PIECE):
        hashed.update(piece)
    return file.tell(), hashed.hexdigest()


async def pieces(number: int, size: int) -> AsyncIterator[bytes]:
    """Of the file with this descriptor. Raises OSError when it cannot be read to its end, so that nobody takes what
    was sent for all of it."""
    at = 0
    while at < size:
        piece = await in_thread(os.pread, number, _PIECE, at)
        if not piece:
            raise OSError(f"a prepared zip ended after {at:,} of {size:,} bytes")
        at += len(piece)
        yield piece
