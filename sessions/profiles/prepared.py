"""Profiles that are restored, checked and zipped, for the GET that follows a start: bounded in number, bytes and time.

Each is a file without a name. Whoever sends one has a descriptor of its own, so that it may go meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import IO

from sessions.profiles.generations import Generation

KEPT = 16
KEPT_BYTES = 2**30
KEPT_FOR = 600.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class PreparedZip:
    generation: Generation
    newest: int
    """The number of the newest generation at that time, whether or not it could be restored."""
    skipped: tuple[str, ...]
    file: IO[bytes] = field(repr=False)
    size: int
    digest: str
    """SHA-256 in hex."""

    def descriptor(self) -> int:
        """One more, for whoever reads it; who closes it."""
        return os.dup(self.file.fileno())


class PreparedZips:
    """Of one process."""

    def __init__(self) -> None:
        self._by_session: dict[str, tuple[PreparedZip, asyncio.TimerHandle]] = {}

    def get(self, session: str) -> PreparedZip | None:
        found = self._by_session.get(session)
        return found[0] if found else None

    def keep(self, session: str, prepared: PreparedZip) -> None:
        self.drop(session)
        timer = asyncio.get_running_loop().call_later(KEPT_FOR, self.drop, session)
        self._by_session[session] = prepared, timer
        while len(self._by_session) > KEPT or self._bytes() > KEPT_BYTES:
            self.drop(next(iter(self._by_session)))

    def drop(self, session: str) -> None:
        found = self._by_session.pop(session, None)
        if found is not None:
            found[1].cancel()
            found[0].file.close()

    def close(self) -> None:
        for session in list(self._by_session):
            self.drop(session)

    def _bytes(self) -> int:
        return sum(prepared.size for prepared, _ in self._by_session.values())
