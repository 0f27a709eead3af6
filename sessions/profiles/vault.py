"""Saves and restores profiles: a new generation beside the old one, checked, and then one step.

    save      pack ─▶ write the chunks that are new ─▶ read them back ─▶ manifest ─▶ commit ─▶ erase what is dropped
    restore   newest generation ─▶ whole and true? ─▶ in the place of the old folder
                     └── no: the one before, and it is told

A crash anywhere leaves the newest generation that counted; what lies there unnamed is found by `prune`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sessions.profiles import manifest as manifests
from sessions.profiles.contents import Contents, Manifests
from sessions.profiles.errors import Broken, ProfileError, WrongKey
from sessions.profiles.generations import Generation, Generations, Profile, Refused, Written
from sessions.profiles.manifest import Manifest, Origin
from sessions.profiles.packing import PackedChunk, Packing, Unpacking
from sessions.profiles.portable import portable_files
from sessions.profiles.sealing import Seals
from sluice.observe.log import Log

LOG = Log("sessions")
KEEP = 3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Saved:
    generation: int
    size: int
    written: int
    """Bytes that were new."""
    chunks: int
    new: int


@dataclass(frozen=True, slots=True)
class Restored:
    generation: Generation
    skipped: tuple[str, ...] = ()
    """What was wrong with newer ones."""


@dataclass(frozen=True, slots=True)
class NothingKept:
    """There is no login: none was ever saved, or it was deleted. Nobody else says so, whatever is wrong."""

    deleted: bool


class NoneReadable(ProfileError):
    """There are generations, and none of them can be restored. It must not be taken for "no login"."""


class Vault:
    """`secrets`: the first one seals, all of them open. `keep`: so many generations."""

    def __init__(
        self, generations: Generations, manifests: Manifests, contents: Contents, secrets: Sequence[bytes]
    ) -> None:
        self.generations = generations
        self._manifests = manifests
        self._contents = contents
        self._secrets = secrets
        self.keep = KEEP

    async def save(self, session: str, fence: int, profile: Path, origin: Origin) -> Saved | Refused:
        """Of a folder that nobody writes to meanwhile. Raises ProfileError, OSError, StoreAway, StoreRefused."""
        seals = Seals(self._secrets, session)
        files = await asyncio.to_thread(portable_files, profile)
        begun = await self.generations.begin(session, fence)
        if isinstance(begun, str):
            return begun
        _, number = begun
        packing = Packing(profile, files, seals, number, await self._known(session, seals))
        new = await self._write(session, number, packing, seals)
        made = packing.manifest(time.time(), origin)
        sealed = manifests.sealed(made, seals)
        await self._manifests.put(session, number, sealed)
        written = Written(
            number,
            size=made.size,
            stored=sum(new) + len(sealed),
            chunks=len(made.chunks),
            key=seals.current,
            browser=origin.browser,
            backend=origin.backend,
            content=_digest(made),
        )
        dropped = await self.generations.commit(session, fence, written, keep=self.keep)
        if isinstance(dropped, str):
            await self._contents.erase(session, [(chunk.of, chunk.name) for chunk in made.chunks if chunk.of == number])
            await self._manifests.erase(session, [number])
            return dropped
        await self._erase(session, dropped, seals)
        return Saved(number, made.size, written.stored, len(made.chunks), len(new))

    async def restore(self, session: str, profile: Path, known: Profile | None = None) -> Restored | NothingKept:
        """Into `profile`, which is replaced when the whole of a generation is there. Raises NoneReadable, OSError,
        StoreAway, StoreRefused, ContentsAway."""
        known = known or await self.generations.of(session)
        if known is None or known.deleted is not None or not known.generations:
            return NothingKept(deleted=known is not None and known.deleted is not None)
        seals, skipped = Seals(self._secrets, session), list[str]()
        for generation in known.generations:
            try:
                await self._unpack(session, generation.number, seals, profile)
            except (Broken, WrongKey) as error:
                skipped.append(str(error))
                LOG.error("profile.broken", session=session, generation=generation.number, reason=str(error))
            else:
                return Restored(generation, tuple(skipped))
        raise NoneReadable(f"no generation of session {session} can be restored: {skipped[0]}")

    async def verify(self, session: str, number: int) -> Manifest:
        """Reads all of it. Raises Broken, WrongKey, StoreAway, StoreRefused, ContentsAway."""
        seals = Seals(self._secrets, session)
        manifest = await self._manifest(session, number, seals)
        for chunk in manifest.chunks:
            sealed = await self._chunk(session, chunk.of, chunk.name)
            content = await asyncio.to_thread(seals.open, sealed, chunk.name, chunk.size)
            if len(content) != chunk.size:
                raise Broken(f"chunk {chunk.name} has {len(content):,} bytes in place of {chunk.size:,}")
        return manifest

    async def look(self, session: str, number: int) -> Manifest:
        """Whether all of it is there, without a look into its chunks. Raises as `verify` does."""
        manifest = await self._manifest(session, number, Seals(self._secrets, session))
        gone = await self._contents.missing(session, [(chunk.of, chunk.name) for chunk in manifest.chunks])
        if gone:
            raise Broken(f"{len(gone)} of the {len(manifest.chunks)} chunks of generation {number} are missing")
        return manifest

    async def erase(self, session: str) -> None:
        """All of it, for good."""
        numbers = await self._manifests.numbers(session)
        await self.generations.erase(session)
        await self._erase(session, numbers, Seals(self._secrets, session))

    async def _write(self, session: str, number: int, packing: Packing, seals: Seals) -> list[int]:
        """The sizes of what was written, each read back before the next one."""
        written: list[int] = []
        chunks = iter(packing)
        while (chunk := await asyncio.to_thread(_next, chunks)) is not None:
            await self._contents.put(session, number, chunk.name, chunk.sealed)
            if await self._contents.get(session, number, chunk.name) != chunk.sealed:
                raise Broken(f"chunk {chunk.name} was written and could not be read back")
            written.append(len(chunk.sealed))
        return written

    async def _unpack(self, session: str, number: int, seals: Seals, profile: Path) -> None:
        manifest = await self._manifest(session, number, seals)
        unpacking = Unpacking(manifest, seals, profile)
        await asyncio.to_thread(unpacking.__enter__)
        try:
            for chunk in manifest.chunks:
                await asyncio.to_thread(unpacking.write, await self._chunk(session, chunk.of, chunk.name))
            await asyncio.to_thread(unpacking.replace)
        finally:
            await asyncio.to_thread(unpacking.__exit__, None, None, None)

    async def _manifest(self, session: str, number: int, seals: Seals) -> Manifest:
        sealed = await self._manifests.get(session, number)
        if sealed is None:
            raise Broken(f"generation {number} has no manifest")
        return manifests.opened(sealed, number, seals)

    async def _chunk(self, session: str, of: int, name: str) -> bytes:
        sealed = await self._contents.get(session, of, name)
        if sealed is None:
            raise Broken(f"chunk {name} is missing")
        return sealed

    async def _known(self, session: str, seals: Seals) -> dict[str, int]:
        """The chunks of the newest generation that are there, unless they are sealed with an old key."""
        profile = await self.generations.of(session)
        if profile is None or profile.newest is None or profile.newest.key != seals.current:
            return {}
        try:
            manifest = await self._manifest(session, profile.newest.number, seals)
        except (Broken, WrongKey):
            return {}
        chunks = [(chunk.of, chunk.name) for chunk in manifest.chunks]
        gone = await self._contents.missing(session, chunks)
        return {name: of for of, name in chunks if (of, name) not in gone}

    async def _erase(self, session: str, numbers: Sequence[int], seals: Seals) -> None:
        """What only these generations have. Where one of them or of those that are kept cannot be read, nobody can say
        what that is, and it is left to `prune`."""
        if not numbers:
            return
        profile = await self.generations.of(session)
        left = [one.number for one in profile.generations] if profile else []
        try:
            kept = [await self._chunks(session, number, seals) for number in left]
            dropped = [await self._chunks(session, number, seals) for number in numbers]
        except (Broken, WrongKey) as error:
            LOG.warning("profile.not_erased", session=session, generations=list(numbers), reason=str(error))
            return
        await self._contents.erase(session, set().union(*dropped) - set().union(*kept))
        await self._manifests.erase(session, numbers)

    async def _chunks(self, session: str, number: int, seals: Seals) -> set[tuple[int, str]]:
        manifest = await self._manifest(session, number, seals)
        return {(chunk.of, chunk.name) for chunk in manifest.chunks}


def _next(chunks: Iterator[PackedChunk]) -> PackedChunk | None:
    return next(chunks, None)


def _digest(manifest: Manifest) -> str:
    listed = repr([(file.name, file.size) for file in manifest.files] + [chunk.name for chunk in manifest.chunks])
    return hashlib.sha256(listed.encode()).hexdigest()[:16]
