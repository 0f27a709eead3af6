"""Saves and restores profiles: a new generation beside the old one, checked, and then one step.

    save      pack ─▶ write the chunks that are new ─▶ read them back ─▶ manifest ─▶ commit ─▶ sweep what is dropped
    restore   newest generation ─▶ whole and true? ─▶ in the place of the old folder
                     └── no: the one before, and it is told

A crash anywhere leaves the newest generation that counted; what lies there unnamed is swept after the next save, or by
`prune`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sessions.profiles.contents import Contents, Manifests
from sessions.profiles.errors import Broken, ProfileError, WrongKey
from sessions.profiles.generations import Generation, Generations, Profile, Refused
from sessions.profiles.kept import Kept
from sessions.profiles.manifest import Manifest, Origin
from sessions.profiles.packing import Unpacking
from sessions.profiles.portable import portable_files
from sessions.profiles.saving import Saved as Saved, save_once
from sessions.profiles.sealing import Seals
from sessions.profiles.threads import in_thread
from sluice.observe.log import Log

LOG = Log("sessions")
KEEP = 3
_LOOKS = 10
"""How often a restore begins again as others have saved meanwhile."""


@dataclass(frozen=True, slots=True)
class Restored:
    generation: Generation
    skipped: tuple[str, ...] = ()
    """What was wrong with newer ones: `generation 13: chunk … is missing`."""


@dataclass(frozen=True, slots=True)
class NothingKept:
    """There is no login: none was ever saved, or it was deleted. Nobody else says so, whatever is wrong."""

    deleted: bool


class NoneReadable(ProfileError):
    """There are generations, and none of them may be restored. It must not be taken for "no login"."""


class Vault:
    """`secrets`: the first one seals, all of them open. `keep`: so many generations of each session."""

    def __init__(
        self,
        generations: Generations,
        manifests: Manifests,
        contents: Contents,
        secrets: Sequence[bytes],
        *,
        keep: int = KEEP,
    ) -> None:
        self.generations = generations
        self._manifests = manifests
        self._contents = contents
        self._secrets = secrets
        self.keep = keep

    def kept(self, session: str) -> Kept:
        return Kept(session, self._manifests, self._contents, Seals(self._secrets, session))

    async def save(self, session: str, fence: int, profile: Path, origin: Origin) -> Saved | Refused:
        """Of a folder that nobody writes to meanwhile. Raises ProfileError, OSError, StoreAway, StoreRefused.

        Whatever it raises, what was kept before is kept, and what it wrote is taken back or swept later.
        """
        kept, files = self.kept(session), await in_thread(portable_files, profile)
        for shares in (True, False):
            saved = await save_once(
                self.generations, kept, fence, profile, files, origin, keep=self.keep, shares=shares
            )
            if saved != "moved":
                return saved
        raise AssertionError("a generation that builds on none has moved")

    async def restore(
        self, session: str, profile: Path, known: Profile | None = None, *, passed_over: Sequence[str] = ()
    ) -> Restored | NothingKept:
        """Into `profile`, which is replaced when the whole of a generation is there. `passed_over`: what is wrong with
        newer ones that are not in `known`. Raises NoneReadable, OSError, StoreAway, StoreRefused, ContentsAway."""
        kept = self.kept(session)
        for _ in range(_LOOKS):
            known = known or await self.generations.of(session)
            if known is None or known.deleted is not None or not known.generations:
                return NothingKept(deleted=known is not None and known.deleted is not None)
            restored = await self._restore(kept, known, profile, passed_over)
            if restored is not None:
                return restored
            known = None
        raise NoneReadable(f"session {session} was saved {_LOOKS} times while it was read: stop one of its browsers")

    async def verify(self, session: str, number: int) -> Manifest:
        """Reads all of it. Raises Broken, WrongKey, StoreAway, StoreRefused, ContentsAway."""
        kept, manifest = self.kept(session), await self._manifest(session, number)
        for chunk in manifest.chunks:
            await kept.content(chunk)
        return manifest

    async def look(self, session: str, number: int) -> Manifest:
        """Whether all of it is there, without a look into its chunks. Raises as `verify` does."""
        manifest = await self._manifest(session, number)
        gone = await self._contents.missing(session, [(chunk.of, chunk.name) for chunk in manifest.chunks])
        if gone:
            raise Broken(f"{len(gone)} of the {len(manifest.chunks)} chunks of generation {number} are missing")
        return manifest

    async def erase(self, session: str) -> None:
        """All of it, for good. A crash within leaves a deleted session, which `prune` brings to its end."""
        await self.generations.delete(session, None)
        profile = await self.generations.of(session)
        if profile is not None:
            await self.generations.drop(session, [one.number for one in profile.generations])
            await self.generations.settle(session)
            await self.kept(session).sweep(await self.generations.of(session))
            await self.generations.forget(session)

    async def _manifest(self, session: str, number: int) -> Manifest:
        profile = await self.generations.of(session)
        generation = next((one for one in profile.generations if one.number == number), None) if profile else None
        if generation is None:
            raise Broken(f"session {session} has no generation {number}")
        return await self.kept(session).manifest(generation)

    async def _restore(self, kept: Kept, known: Profile, profile: Path, passed_over: Sequence[str]) -> Restored | None:
        """None: what could not be read is not kept any more, so look again."""
        skipped = list(passed_over)
        why = ""
        for generation in known.generations:
            try:
                await _unpack(kept, generation, profile)
            except (Broken, WrongKey) as error:
                if not await self._is_kept(kept.session, generation):
                    return None
                why = str(error)
                LOG.error("profile.broken", session=kept.session, generation=generation.number, reason=why)
                skipped.append(f"generation {generation.number}: {why}")
                if isinstance(error, WrongKey):  # nothing is wrong with it: whoever has the key gets it
                    break
            else:
                return Restored(generation, tuple(skipped))
        raise NoneReadable(f"no generation of session {kept.session} can be restored: {why}")

    async def _is_kept(self, session: str, generation: Generation) -> bool:
        profile = await self.generations.of(session)
        there = profile.generations if profile and profile.deleted is None else ()
        return any((one.number, one.under) == (generation.number, generation.under) for one in there)


async def _unpack(kept: Kept, generation: Generation, profile: Path) -> None:
    manifest = await kept.manifest(generation)
    unpacking = Unpacking(manifest, kept.seals, profile)
    try:
        await in_thread(unpacking.__enter__)
        for chunk in manifest.chunks:
            await in_thread(unpacking.write, await kept.sealed(chunk))
        await in_thread(unpacking.replace)
    finally:
        await in_thread(unpacking.__exit__, None, None, None)
