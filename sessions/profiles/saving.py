"""One attempt to save a profile as a new generation."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sessions.profiles.errors import Broken, ContentsAway, WrongKey
from sessions.profiles.generations import Generation, Generations, Refused, Written
from sessions.profiles.kept import Kept, NotReadBack
from sessions.profiles.manifest import Manifest, Origin, is_unproven
from sessions.profiles.packing import PackedChunk, Packing
from sessions.profiles.portable import ProfileFile
from sessions.profiles.threads import in_thread
from sluice.observe.log import Log
from sluice.store.client import StoreAway, StoreRefused

LOG = Log("sessions")
_LOOKED_AT = 2
"""Of the chunks that a save shares with the generation before so many are read, so that no broken one is shared for
ever. Each of a profile of 20 MB has its turn within some saves; more would be a bill where reading costs money."""
_TAKING_BACK = 10.0
"""Seconds; what is still there then is swept later."""


@dataclass(frozen=True, slots=True)
class Saved:
    generation: int
    """The one before, where nothing has changed: its time is renewed."""
    size: int
    written: int
    """Bytes that were new."""
    chunks: int
    new: int
    last_good: Generation | None = None
    """One that is over four times as large, and is kept for that."""


@dataclass(frozen=True, slots=True)
class _Base:
    """The generation that a new one shares chunks with."""

    generation: Generation
    manifest: Manifest
    chunks: dict[str, int]
    """Those that are there: name, and under which number."""


async def save_once(
    generations: Generations,
    kept: Kept,
    fence: int,
    profile: Path,
    files: Sequence[ProfileFile],
    origin: Origin,
    *,
    keep: int,
    shares: bool,
) -> Saved | Refused | Literal["moved"]:
    """`moved`: the generation whose chunks it shares is not kept any more; without sharing it is never said.

    One that is unproven is kept beyond `keep`, until any later one takes its place: it pushes none out.
    """
    session = kept.session
    number = await generations.begin(session, fence)
    if isinstance(number, str):
        return number
    before = await _unproven(generations, session)
    base = await _base(generations, kept) if shares else None
    packing = Packing(profile, files, kept.seals, number, base.chunks if base else {})
    new: list[tuple[str, int]] = []
    try:
        await _write(kept, number, packing, new)
        made = packing.manifest(time.time(), origin)
        if base and not new and (made.content, origin) == (base.manifest.content, base.manifest.origin):
            renewed = await generations.renew(session, fence, base.generation)
            if renewed is not False:
                return _again(base.generation, made) if renewed is True else renewed
        stored = sum(size for _, size in new) + await kept.put_manifest(made, number)
    except BaseException as error:
        await _take_back(kept, number, new)
        if isinstance(error, NotReadBack) and await generations.is_settled(session, number):
            return "stale"
        raise
    written = _written(number, made, stored, kept.seals.current)
    beyond = len(before) + is_unproven(origin)
    on = base.generation if base else None
    committed = await generations.commit(session, fence, written, keep=keep + beyond, on=on)
    if isinstance(committed, str):
        await _take_back(kept, number, new)
        return committed
    last_good = await _sweep(generations, kept, before)
    return Saved(number, made.size, stored, len(made.chunks), len(new), last_good)


async def _base(generations: Generations, kept: Kept) -> _Base | None:
    """The newest one, unless it is sealed with an old key or cannot be read."""
    profile = await generations.of(kept.session)
    newest = profile.newest if profile else None
    if newest is None or newest.key != kept.seals.current:
        return None
    try:
        manifest = await kept.manifest(newest)
    except (Broken, WrongKey) as error:
        LOG.error("profile.broken", session=kept.session, generation=newest.number, reason=str(error))
        return None
    gone = await kept.contents.missing(kept.session, [(chunk.of, chunk.name) for chunk in manifest.chunks])
    there = [chunk for chunk in manifest.chunks if (chunk.of, chunk.name) not in gone]
    chunks = {chunk.name: chunk.of for chunk in there}
    for chunk in random.sample(there, min(len(there), _LOOKED_AT)):
        try:
            await kept.content(chunk)
        except (Broken, WrongKey) as error:
            LOG.error("profile.broken", session=kept.session, generation=newest.number, reason=str(error))
            chunks.pop(chunk.name, None)
    return _Base(newest, manifest, chunks)


async def _write(kept: Kept, number: int, packing: Packing, new: list[tuple[str, int]]) -> None:
    """Each is read back before the next one. `new` gets names and sizes."""
    chunks = iter(packing)
    while (chunk := await in_thread(_next, chunks)) is not None:
        new.append((chunk.name, len(chunk.sealed)))
        await kept.put(number, chunk.name, chunk.sealed)


def _next(chunks: Iterator[PackedChunk]) -> PackedChunk | None:
    return next(chunks, None)


async def _take_back(kept: Kept, number: int, new: Sequence[tuple[str, int]]) -> None:
    try:
        async with asyncio.timeout(_TAKING_BACK):
            await kept.take_back(number, [name for name, _ in new])
    except (TimeoutError, StoreAway, StoreRefused, ContentsAway) as error:
        LOG.warning("profile.not_swept", session=kept.session, reason=str(error) or "no answer in time")


async def _unproven(generations: Generations, session: str) -> list[int]:
    profile = await generations.of(session)
    return [one.number for one in profile.generations if one.unproven] if profile else []


async def _sweep(generations: Generations, kept: Kept, before: Sequence[int]) -> Generation | None:
    """After a commit, in whose place those `before` were: what goes wrong here takes nothing from it. The last good
    generation, if that is not like it."""
    try:
        if before:
            await generations.drop(kept.session, before)
        profile = await generations.of(kept.session)
        await kept.sweep(profile)
    except (StoreAway, StoreRefused, ContentsAway) as error:
        LOG.warning("profile.not_swept", session=kept.session, reason=str(error))
        return None
    last_good = profile.last_good if profile else None
    if profile and last_good and profile.newest:
        LOG.warning(
            "profile.shrunk",
            session=kept.session,
            size=profile.newest.size,
            before=last_good.size,
            kept=last_good.number,
        )
    return last_good


def _again(generation: Generation, made: Manifest) -> Saved:
    return Saved(generation.number, made.size, 0, len(made.chunks), 0)


def _written(number: int, made: Manifest, stored: int, key: str) -> Written:
    about = (made.origin.browser, made.origin.backend, _digest(made))
    return Written(number, made.size, stored, len(made.chunks), key, *about)


def _digest(manifest: Manifest) -> str:
    listed = repr([(file.name, file.size) for file in manifest.files] + [chunk.name for chunk in manifest.chunks])
    return hashlib.sha256(listed.encode()).hexdigest()[:16]
