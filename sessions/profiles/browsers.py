"""Which browser wrote a profile, and whether another one may open it.

A store that is too new for an older browser is dropped by it without a word, and one of the other IndexedDB backend is
deleted: the login is gone. So both are kept with each generation, and compared before one is restored.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from sessions.profiles.errors import ProfileError
from sluice.process.ending import kill

_NAMED = re.compile(
    r"(?:(?P<product>[A-Za-z][A-Za-z ()]{0,40}?) )?(?P<version>\d{1,5}(?:\.\d{1,6}){1,3})(?: .*)?", re.S
)
_ANSWERS = 15.0
"""Seconds in which a browser tells its version; on a busy machine that takes some."""
_LONGEST = 200


class Unfit(ProfileError):
    """This browser would lose the login."""


@dataclass(frozen=True, slots=True)
class Browser:
    product: str = ""
    """As `Chromium` or `Google Chrome`; empty: nobody knows."""
    version: str = ""
    """As `156.0.8078.79`; empty: nobody knows."""
    backend: str = ""
    """How it keeps IndexedDB: `leveldb` or `sqlite`; empty: nobody knows."""

    @property
    def name(self) -> str:
        """As it is kept with a generation."""
        return f"{self.product} {self.version}".strip()

    @property
    def milestone(self) -> int:
        return int(self.version.partition(".")[0] or 0)


def named(name: str, backend: str = "") -> Browser:
    """From what a browser says of itself, or what is kept with a generation."""
    found = _NAMED.fullmatch(name.strip()[:_LONGEST])
    return Browser(found["product"] or "", found["version"], backend) if found else Browser(backend=backend)


def last_version(profile: Path) -> str:
    """Of the browser that ran there last, as each Chromium notes it; empty: it did not. Its product is not noted."""
    try:
        with (profile / "Last Version").open("rb") as file:
            return named(file.read(64).decode("ascii", "replace")).version
    except OSError:
        return ""


async def browser_at(executable: str) -> Browser:
    """What an executable says of itself. Raises ProfileError."""
    try:
        process = await asyncio.create_subprocess_exec(
            *(executable, "--version"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise ProfileError(f"{executable} cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(_ANSWERS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise ProfileError(f"{executable} --version did not answer within {_ANSWERS:g} s") from None
    finally:
        await kill(process)
    browser = named(said.decode("utf-8", "replace"))
    if not browser.version:
        raise ProfileError(f"{executable} --version said {said[:100]!r}, which names no version")
    return browser


def check(kept: Browser, runs: Browser) -> str | None:
    """Whether browser `runs` may open what `kept` wrote. A warning, or None. Raises Unfit.

    Patch releases of one milestone have one format, so only an older milestone is a downgrade.
    """
    if kept.product and runs.product and kept.product != runs.product:
        raise Unfit(
            f"the profile was written by {kept.name}, and {runs.name} is another product, which may drop it without a "
            f"word: run this session with {kept.product} {kept.milestone} or newer"
        )
    if runs.version and runs.milestone < kept.milestone:
        raise Unfit(
            f"the profile was written by {kept.name}, and {runs.name} is older: it would drop what it does not know, "
            f"and the login with it. Update the browser of this machine to {kept.milestone} or newer"
        )
    if kept.backend and runs.backend and kept.backend != runs.backend:
        return (
            f"the profile keeps its IndexedDB in {kept.backend}, and {runs.name or 'the browser here'} keeps it in "
            f"{runs.backend}: it may delete what it finds. Start all browsers with the same IdbSqliteOnDiskRollout and "
            "IdbSqliteBackingStore (docs/vault.md)"
        )
    return None
