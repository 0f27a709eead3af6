"""What is kept of one session: read and checked, written and read back, and swept of what no generation names."""

from __future__ import annotations

from dataclasses import dataclass

from sessions.profiles import manifest as manifests
from sessions.profiles.contents import Contents, Manifests
from sessions.profiles.errors import Broken, WrongKey
from sessions.profiles.generations import Generation, Profile
from sessions.profiles.manifest import Chunk, Manifest
from sessions.profiles.sealing import Seals
from sessions.profiles.threads import in_thread
from sluice.observe.log import Log

LOG = Log("sessions")


@dataclass(frozen=True, slots=True)
class Swept:
    chunks: int = 0
    size: int = 0
    """Bytes, those of manifests too."""
    reason: str | None = None
    """Why nothing was erased."""


class NotReadBack(Broken):
    """What was written just now is not there. Where its number is settled it was swept, as a later one counts."""


class Kept:
    """All methods raise StoreAway, StoreRefused and ContentsAway."""

    def __init__(self, session: str, manifests: Manifests, contents: Contents, seals: Seals) -> None:
        self.session = session
        self.seals = seals
        self.contents = contents
        self._manifests = manifests

    async def manifest(self, generation: Generation) -> Manifest:
        """Raises Broken and WrongKey."""
        sealed = await self._manifests.get(self.session, generation.under)
        if sealed is None:
            raise Broken(f"generation {generation.number} has no manifest")
        return manifests.opened(sealed, generation.number, self.seals)

    async def sealed(self, chunk: Chunk) -> bytes:
        """Raises Broken where it is missing."""
        sealed = await self.contents.get(self.session, chunk.of, chunk.name)
        if sealed is None:
            raise Broken(f"chunk {chunk.name} is missing")
        return sealed

    async def content(self, chunk: Chunk) -> bytes:
        """Raises Broken and WrongKey."""
        sealed = await self.sealed(chunk)
        return await in_thread(self.seals.content, sealed, chunk.name, chunk.size)

    async def put(self, of: int, name: str, sealed: bytes) -> None:
        """And reads it back. Raises Broken."""
        await self.contents.put(self.session, of, name, sealed)
        if await self.contents.get(self.session, of, name) != sealed:
            raise NotReadBack(f"chunk {name} was written and could not be read back")

    async def put_manifest(self, manifest: Manifest, under: int) -> int:
        """Its bytes. Raises Broken and TooLarge."""
        sealed = await in_thread(manifests.sealed, manifest, self.seals)
        if not await self._manifests.put(self.session, under, sealed):
            raise Broken(f"the number {under} was given twice, as the store has lost its last writes: save once more")
        if await self._manifests.get(self.session, under) != sealed:
            raise NotReadBack(
                f"the manifest of generation {manifest.generation} was written and could not be read back"
            )
        return len(sealed)

    async def take_back(self, under: int, names: list[str]) -> None:
        """What was written under a number that does not count, and never will."""
        await self.contents.erase(self.session, [(under, name) for name in names])
        await self._manifests.erase(self.session, [under])

    async def sweep(self, profile: Profile | None, *, dry_run: bool = False) -> Swept:
        """Erases what lies under numbers that are settled and is named by no generation: what was dropped, and what was
        never finished. `profile`: as it is in the store since those were dropped.

        Safe beside everybody else: whoever writes does so under a number that is not settled, and shares only chunks of
        a generation that is still kept when his own begins to count. Where a manifest cannot be read nobody can say
        what its generation needs, so nothing is erased.
        """
        settled = profile.settled if profile else 0
        generations = profile.generations if profile else ()
        try:
            used = {(chunk.of, chunk.name) for one in generations for chunk in (await self.manifest(one)).chunks}
        except (Broken, WrongKey) as error:
            LOG.warning("profile.not_swept", session=self.session, reason=str(error))
            return Swept(reason=str(error))
        under = {one.under for one in generations}
        chunks = await self.contents.lying(self.session)
        chunks = {one: size for one, size in chunks.items() if one[0] <= settled and one not in used}
        old = await self._manifests.lying(self.session)
        old = {one: size for one, size in old.items() if one <= settled and one not in under}
        if not dry_run:
            await self.contents.erase(self.session, list(chunks))
            await self._manifests.erase(self.session, list(old))
        return Swept(len(chunks), sum(chunks.values()) + sum(old.values()))
