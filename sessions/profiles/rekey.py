"""What is sealed with an old key is sealed with the first one, so that `sessions.vault.key` needs the old one no more.

Generation by generation, the newest first: written beside what is there, read back, and then one step. Whoever runs the
session is not disturbed. Killed at any moment, it goes on where it was; what it left is swept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sessions.profiles.errors import Broken, WrongKey
from sessions.profiles.generations import Generation
from sessions.profiles.kept import Kept, NotReadBack
from sessions.profiles.manifest import Chunk
from sessions.profiles.threads import in_thread
from sessions.profiles.vault import Vault

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Rekeyed:
    generations: int = 0
    chunks: int = 0
    size: int = 0
    """Bytes of the profile that were sealed anew."""
    problems: tuple[str, ...] = ()
    """Which generations still need the old key, and why."""

    def __add__(self, other: Rekeyed) -> Rekeyed:
        return Rekeyed(
            self.generations + other.generations,
            self.chunks + other.chunks,
            self.size + other.size,
            self.problems + other.problems,
        )


async def rekey(vault: Vault, session: str, *, dry_run: bool = False) -> Rekeyed:
    """Of one session. Raises StoreAway, StoreRefused and ContentsAway; what was done until then is, and the rest is
    found the next time."""
    kept, done, problems = vault.kept(session), Rekeyed(), dict[int, str]()
    if dry_run:
        return await _needed(kept, await _old(vault, kept))
    for _ in range(_ATTEMPTS):
        old = [one for one in await _old(vault, kept) if one.number not in problems]
        if not old:
            break
        for generation in old:
            try:
                done += await _reseal(vault, kept, generation)
            except (Broken, WrongKey) as error:
                problems[generation.number] = str(error)
    for generation in await _old(vault, kept):
        problems.setdefault(generation.number, "it was changed meanwhile; run it once more")
    said = tuple(f"session {session}, generation {number}: {why}" for number, why in sorted(problems.items()))
    return replace(done, problems=said)


async def _old(vault: Vault, kept: Kept) -> list[Generation]:
    """Those of another key, newest first, deleted or not."""
    profile = await vault.generations.of(kept.session)
    return [one for one in profile.generations if one.key != kept.seals.current] if profile else []


async def _needed(kept: Kept, old: Sequence[Generation]) -> Rekeyed:
    sizes: dict[tuple[int, str], int] = {}
    problems = []
    for generation in old:
        try:
            sizes |= {(one.of, one.name): one.size for one in (await kept.manifest(generation)).chunks}
        except (Broken, WrongKey) as error:
            problems.append(f"session {kept.session}, generation {generation.number}: {error}")
    return Rekeyed(len(old) - len(problems), len(sizes), sum(sizes.values()), tuple(problems))


async def _reseal(vault: Vault, kept: Kept, generation: Generation) -> Rekeyed:
    """Nothing, where somebody else was faster. Raises Broken and WrongKey."""
    session, before = kept.session, await kept.manifest(generation)
    base, shared = await _base(vault, kept, generation)
    number = await vault.generations.begin(session, None)
    assert not isinstance(number, str)  # without a fence nobody is refused
    new: dict[str, int] = {}
    try:
        chunks = [await _chunk(kept, one, number, shared, new) for one in before.chunks]
        stored = sum(new.values()) + await kept.put_manifest(replace(before, chunks=tuple(chunks)), number)
    except BaseException as error:
        await kept.take_back(number, list(new))
        if isinstance(error, NotReadBack) and await vault.generations.is_settled(session, number):
            return Rekeyed()
        raise
    if not await vault.generations.resealed(session, generation, number, kept.seals.current, stored, on=base):
        await kept.take_back(number, list(new))
        return Rekeyed()
    await kept.sweep(await vault.generations.of(session))
    return Rekeyed(1, len(new), sum(one.size for one in chunks if one.of == number))


async def _base(vault: Vault, kept: Kept, generation: Generation) -> tuple[Generation | None, dict[str, Chunk]]:
    """Of those that are sealed with the first key the one nearest to it, as it has most chunks in common; and these."""
    profile = await vault.generations.of(kept.session)
    current = [one for one in profile.generations if one.key == kept.seals.current] if profile else []
    if not current:
        return None, {}
    base = min(current, key=lambda one: abs(one.number - generation.number))
    try:
        chunks = (await kept.manifest(base)).chunks
    except (Broken, WrongKey):
        return None, {}
    gone = await kept.contents.missing(kept.session, [(one.of, one.name) for one in chunks])
    return base, {one.name: one for one in chunks if (one.of, one.name) not in gone}


async def _chunk(kept: Kept, chunk: Chunk, number: int, shared: dict[str, Chunk], new: dict[str, int]) -> Chunk:
    content = await kept.content(chunk)
    name = await in_thread(kept.seals.name_of, content)
    if name in shared:
        return shared[name]
    sealed = await in_thread(kept.seals.seal, content, name)
    new[name] = len(sealed)
    await kept.put(number, name, sealed)
    shared[name] = Chunk(name, chunk.size, number)
    return shared[name]
