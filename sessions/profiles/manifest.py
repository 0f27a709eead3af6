"""What a generation of a profile consists of. It is sealed as a whole: chunks that are missing, cut, in another order
or of another generation are found by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from sessions.profiles.errors import Broken, TooLarge, Unsafe
from sessions.profiles.portable import MAX_FILES, MAX_PROFILE, safe_name
from sessions.profiles.sealing import CHUNK, MANIFEST, Seals

VERSION = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a profile comes from: a restore compares it with the browser that is to run it."""

    browser: str = ""
    """Product and version, as `Chromium 156.0.8078.79`, or `156.0.8078.79` where nothing says which product; empty:
    nobody knows. After it `UNPROVEN`, which every version of Sluice takes for a part of the name."""
    backend: str = ""
    """How it keeps its IndexedDB: `leveldb` or `sqlite`."""
    host: str = ""
    by: str = ""
    """What wrote it: `sluice 1.0`, or `whatsapp-web.js 1.34.7`."""


UNPROVEN = "(perhaps without a login)"
"""Of a profile whose page had not said whether anybody has logged in. It may be that of a login that is seconds old, so
it is kept; but it says nothing of whether there ever was one."""


def unproven(origin: Origin) -> Origin:
    return replace(origin, browser=f"{origin.browser} {UNPROVEN}".strip())


def is_unproven(origin: Origin) -> bool:
    return origin.browser.endswith(UNPROVEN)


@dataclass(frozen=True, slots=True)
class Chunk:
    name: str
    size: int
    """Bytes of its content."""
    of: int
    """The generation in which it was written: whoever writes another one never touches what is kept."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """Its content is `size` bytes of the chunks put one after the other, in the order of the files."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    generation: int
    made: float
    """Seconds since 1970."""
    files: tuple[KeptFile, ...]
    chunks: tuple[Chunk, ...]
    origin: Origin = Origin()

    @property
    def size(self) -> int:
        return sum(chunk.size for chunk in self.chunks)

    @property
    def content(self) -> tuple[object, ...]:
        """What is the same where nothing has changed."""
        return self.files, [(chunk.name, chunk.size) for chunk in self.chunks]


def sealed(manifest: Manifest, seals: Seals) -> bytes:
    """Raises TooLarge."""
    document = {
        "version": VERSION,
        "generation": manifest.generation,
        "made": manifest.made,
        "files": [[file.name, file.size] for file in manifest.files],
        "chunks": [[chunk.name, chunk.size, chunk.of] for chunk in manifest.chunks],
        "origin": manifest.origin,
    }
    text = orjson.dumps(document)
    if len(text) > MANIFEST:
        raise TooLarge(f"the names of {len(manifest.files):,} files take {len(text):,} bytes, over {MANIFEST:,}")
    return seals.seal(text, _what(manifest.generation))


def opened(data: bytes, generation: int, seals: Seals) -> Manifest:
    """Raises Broken or WrongKey."""
    document = orjson.loads(seals.open(data, _what(generation), MANIFEST))
    if document["version"] != VERSION:
        raise Broken(
            f"generation {generation} has version {document['version']}, which a newer Sluice wrote: update this one"
        )
    try:
        files = tuple(KeptFile(safe_name(name), _size(size)) for name, size in document["files"])
    except Unsafe as error:
        raise Broken(f"generation {generation}: {error}") from None
    chunks = tuple(Chunk(name, _size(size), of) for name, size, of in document["chunks"])
    _check(generation, files, chunks)
    return Manifest(generation, document["made"], files, chunks, Origin(**document["origin"]))


def _what(generation: int) -> str:
    return f"generation {generation}"


def _size(size: Any) -> int:
    if type(size) is not int or not 0 <= size <= MAX_PROFILE:
        raise Broken("a manifest with a size that cannot be")
    return size


def _check(generation: int, files: Iterable[KeptFile], chunks: Iterable[Chunk]) -> None:
    """Nobody without the key could write another one; this is against our own mistakes."""
    names = [file.name for file in files]
    size = sum(file.size for file in files)
    whole = size == sum(chunk.size for chunk in chunks) and all(chunk.size <= CHUNK for chunk in chunks)
    if len(set(names)) != len(names) or len(names) > MAX_FILES or size > MAX_PROFILE or not whole:
        raise Broken(f"generation {generation} contradicts itself")
