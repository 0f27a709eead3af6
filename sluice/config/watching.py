"""When to look at files again: as soon as something happens where they lie, and every two seconds all the same.

What the kernel tells (through watchfiles) is only a hint. Not every mount tells, and nobody tells of a link that turns
somewhere above; so the caller looks for itself, and what it sees counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from pathlib import Path

from watchfiles import awatch

from sluice.process.loops import Stop

SLOWLY = 2.0
"""Seconds between two looks when nothing is told."""
_STEP, _TOGETHER = 100, 1000  # ms of quiet that end a burst of changes, and the longest burst


async def hints(files: Callable[[], Iterable[Path]], stop: Stop) -> AsyncGenerator[None, None]:
    """Yields whenever the files should be looked at, until stopped. `files` is asked anew each time."""
    while not stop.requested:
        folders = await asyncio.to_thread(_folders, files)
        try:
            async with contextlib.aclosing(_notifications(folders, stop)) as notifications:
                async for _ in notifications:
                    yield
                    if await asyncio.to_thread(_folders, files) != folders:
                        break
        except (OSError, RuntimeError):  # no more watches to be had, or a folder that went in this moment
            await stop.sleep(SLOWLY)
            yield


async def _notifications(folders: dict[Path, int], stop: Stop) -> AsyncGenerator[None, None]:
    """Raises OSError, or RuntimeError from within watchfiles."""
    async for _ in awatch(
        *folders,
        watch_filter=None,
        step=_STEP,
        debounce=_TOGETHER,
        rust_timeout=int(SLOWLY * 1000),
        yield_on_timeout=True,
        recursive=False,
        stop_event=_Ended(stop),
    ):
        yield


class _Ended(asyncio.Event):
    """What watchfiles asks from its thread, every step."""

    def __init__(self, stop: Stop) -> None:
        super().__init__()
        self._stop = stop

    def is_set(self) -> bool:
        return super().is_set() or self._stop.requested


def _folders(files: Callable[[], Iterable[Path]]) -> dict[Path, int]:
    """Where a change of these files shows, with their inodes: one that was made anew has to be watched anew."""
    found: dict[Path, int] = {}
    for file in files():
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have, or a way that nobody may go
            for folder in folders_of(file):
                with contextlib.suppress(OSError):
                    found[folder] = folder.stat().st_ino
    return found


def folders_of(file: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The folder of the file, and of every link on the way to it: an editor may replace one, Kubernetes turns one."""
    path = file.absolute()
    yield path.parent
    for step in (*reversed(path.parents), path):
        if step.is_symlink() and step not in seen:
            yield step.parent
            target = Path(os.path.normpath(step.parent / step.readlink()))
            yield from folders_of(target / path.relative_to(step), seen | {step})
