"""From the files of a profile to sealed chunks, and back.

The content of a profile is that of its files, one after the other: the small ones first, together, then each large one
from the beginning of a chunk. So what a browser does not touch makes the same chunks each time. At most two chunks are
in memory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from sessions.profiles import in_use, space
from sessions.profiles.errors import Broken, ProfileError
from sessions.profiles.manifest import Chunk, KeptFile, Manifest, Origin
from sessions.profiles.portable import ProfileFile
from sessions.profiles.sealing import CHUNK, Seals

_LARGE = 128 * 1024
"""Bytes from which on a file begins a chunk of its own."""
_RESTORING, _REPLACED = ".sluice-restoring", ".sluice-replaced"


class ChangedMeanwhile(ProfileError):
    """A file was not as long as it was said to be: its browser runs."""


@dataclass(frozen=True, slots=True)
class PackedChunk:
    name: str
    sealed: bytes


class Packing:
    """A generation of a profile. Iterate once, to the end, over the chunks that are to be written; then there is a
    manifest. `known`: chunks that are kept, by their names, and in which generation they were written."""

    def __init__(
        self, profile: Path, files: Sequence[ProfileFile], seals: Seals, generation: int, known: Mapping[str, int]
    ) -> None:
        self._profile = profile
        self._generation = generation
        self._files = sorted(files, key=lambda file: (file.size >= _LARGE, file.name))
        self._seals = seals
        self._known = dict(known)
        self._chunks: list[Chunk] = []

    def __iter__(self) -> Iterator[PackedChunk]:
        """Raises ChangedMeanwhile and OSError."""
        for content in self._contents():
            name = self._seals.name_of(content)
            of = self._known.get(name)
            self._chunks.append(Chunk(name, len(content), self._generation if of is None else of))
            if of is None:
                self._known[name] = self._generation
                yield PackedChunk(name, self._seals.seal(content, name))

    def manifest(self, made: float, origin: Origin) -> Manifest:
        files = tuple(KeptFile(file.name, file.size) for file in self._files)
        return Manifest(self._generation, made, files, tuple(self._chunks), origin)

    def _contents(self) -> Iterator[bytes]:
        content = bytearray()
        for file in self._files:
            if content and file.size >= _LARGE:
                yield bytes(content)
                content.clear()
            with (self._profile / file.name).open("rb") as opened:
                left = file.size
                while left:
                    data = opened.read(min(left, CHUNK - len(content)))
                    if not data:
                        raise ChangedMeanwhile(f"{file.name} became shorter while it was read: its browser runs")
                    content += data
                    left -= len(data)
                    if len(content) == CHUNK:
                        yield bytes(content)
                        content.clear()
                if os.fstat(opened.fileno()).st_size != file.size:
                    raise ChangedMeanwhile(f"{file.name} became longer while it was read: its browser runs")
        if content:
            yield bytes(content)


class Unpacking:
    """Writes the files of a manifest beside `profile`, and puts them in its place when all of it is there and true.

    Whatever ends it before leaves the profile as it was; `recover` puts right what a crash in the last step left.
    Raises InUse for a profile on which a browser runs, and LowSpace.
    """

    def __init__(self, manifest: Manifest, seals: Seals, profile: Path) -> None:
        self._manifest = manifest
        self._seals = seals
        self._profile = profile
        self._folder = profile.with_name(profile.name + _RESTORING)
        self._files = iter(manifest.files)
        self._file: BinaryIO | None = None
        self._left = 0
        self._taken = 0

    def __enter__(self) -> Unpacking:
        in_use.check_free(self._profile)
        recover(self._profile)
        self._folder.mkdir(parents=True, mode=0o700)
        try:
            space.check(self._folder, self._manifest.size)
        except BaseException:
            self._folder.rmdir()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, sealed: bytes) -> None:
        """The next chunk of the manifest. Raises Broken, WrongKey, and OSError such as a full disk."""
        if self._taken == len(self._manifest.chunks):
            raise Broken("there are more chunks than the manifest names")
        chunk = self._manifest.chunks[self._taken]
        content = self._seals.content(sealed, chunk.name, chunk.size)
        self._taken += 1
        data = memoryview(content)
        while data:
            while not self._left:
                self._next_file()
            assert self._file is not None
            taken = data[: self._left]
            self._file.write(taken)
            self._left -= len(taken)
            data = data[len(taken) :]

    def replace(self) -> None:
        """The profile is this one from now on. Raises Broken when a chunk is missing."""
        if self._taken != len(self._manifest.chunks):
            raise Broken(f"{len(self._manifest.chunks) - self._taken} chunks are missing")
        while self._next_file(last=True):
            pass
        for folder, _, _ in os.walk(self._folder):
            _to_disk(folder)
        in_use.check_free(self._profile)  # one may have started meanwhile
        old = self._profile.with_name(self._profile.name + _REPLACED)
        if self._profile.exists():
            self._profile.rename(old)
        self._folder.rename(self._profile)
        _to_disk(self._profile.parent)
        shutil.rmtree(old, ignore_errors=True)

    def _next_file(self, *, last: bool = False) -> bool:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
        file = next(self._files, None)
        if file is None:
            if last:
                return False
            raise Broken("there is more content than files")
        path = self._folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("xb")
        os.chmod(path, 0o600)
        self._left = file.size
        return True


def recover(profile: Path) -> None:
    """After a crash: the profile that was to be replaced is back, unless the new one is in its place, and nothing that
    is half written is left."""
    old = profile.with_name(profile.name + _REPLACED)
    if old.exists() and not profile.exists():
        old.rename(profile)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(profile.with_name(profile.name + _RESTORING), ignore_errors=True)


def _to_disk(folder: Path | str) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
