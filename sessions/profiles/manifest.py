"""What a generation of a profile consists of. It is sealed as a whole: pieces that are missing, cut, in another order
or of another generation are found by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from sessions.profiles.errors import Broken, Unsafe
from sessions.profiles.portable import MAX_FILES, MAX_PROFILE, safe_name
from sessions.profiles.sealing import MANIFEST, PIECE, Seals

VERSION = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a profile comes from: a restore compares it with the browser that is to run it."""

    browser: str = ""
    """Product and version, as `Chromium 156.0.8078.79`; empty: nobody knows."""
    backend: str = ""
    """How it keeps its IndexedDB: `leveldb` or `sqlite`."""
    host: str = ""
    by: str = ""
    """What wrote it: `sluice 1.0`, or `whatsapp-web.js 1.34.7`."""


@dataclass(frozen=True, slots=True)
class Piece:
    name: str
    size: int
    """Bytes of its content."""
    of: int
    """The generation in which it was written: whoever writes another one never touches what is kept."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """Its content is `size` bytes of the pieces put one after the other, in the order of the files."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    generation: int
    made: float
    """Seconds since 1970."""
    files: tuple[KeptFile, ...]
    pieces: tuple[Piece, ...]
    origin: Origin = Origin()

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)

    @property
    def content(self) -> tuple[object, ...]:
        """What is the same where nothing has changed."""
        return self.files, [(piece.name, piece.size) for piece in self.pieces]


def sealed(manifest: Manifest, seals: Seals) -> bytes:
    told = {
        "version": VERSION,
        "generation": manifest.generation,
        "made": manifest.made,
        "files": [[file.name, file.size] for file in manifest.files],
        "pieces": [[piece.name, piece.size, piece.of] for piece in manifest.pieces],
        "origin": manifest.origin,
    }
    return seals.seal(orjson.dumps(told), _what(manifest.generation))


def opened(data: bytes, generation: int, seals: Seals) -> Manifest:
    """Raises Broken or WrongKey."""
    told = orjson.loads(seals.open(data, _what(generation), MANIFEST))
    if told["version"] != VERSION:
        raise Broken(
            f"generation {generation} has version {told['version']}, which a newer Sluice wrote: update this one"
        )
    try:
        files = tuple(KeptFile(safe_name(name), _size(size)) for name, size in told["files"])
    except Unsafe as error:
        raise Broken(f"generation {generation}: {error}") from None
    pieces = tuple(Piece(name, _size(size), of) for name, size, of in told["pieces"])
    _check(generation, files, pieces)
    return Manifest(generation, told["made"], files, pieces, Origin(**told["origin"]))


def _what(generation: int) -> str:
    return f"generation {generation}"


def _size(size: Any) -> int:
    if type(size) is not int or not 0 <= size <= MAX_PROFILE:
        raise Broken("a manifest with a size that cannot be")
    return size


def _check(generation: int, files: Iterable[KeptFile], pieces: Iterable[Piece]) -> None:
    """Nobody without the key could write another one; this is against our own mistakes."""
    names = [file.name for file in files]
    size = sum(file.size for file in files)
    whole = size == sum(piece.size for piece in pieces) and all(piece.size <= PIECE for piece in pieces)
    if len(set(names)) != len(names) or len(names) > MAX_FILES or size > MAX_PROFILE or not whole:
        raise Broken(f"generation {generation} contradicts itself")
