"""Which generations of each session's profile there are, and who may add one.

             claim: a start            begin              commit
    (none) ─────────────▶ claimed ───────────────▶ writing ──────▶ kept, newest of `keep`
                             ▲   later claim: 'stale'   │             │ delete: a logout, a person
                             └──────────────────────────┘             ▼
                                                        undelete ◀─ deleted ── drop, after a grace ──▶ (none)

The bytes lie elsewhere (`sessions.profiles.contents`); a generation counts from the one step that makes it the newest.
There is no TTL: only `drop` ends one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sluice.store.client import Arg, Script, Store, load_script

KEYS = ("sl:{vault}:profiles", "sl:{vault}:fence")
Refused = Literal["stale", "deleted"]
"""A later start has the session, or its login was deleted."""
_PAGE = 200
_VALUES = 10


def _load(name: str, *, adds: bool = False) -> Script:
    return load_script("sessions.profiles", "generations", name, drains=not adds)


_CLAIM, _BEGIN, _COMMIT = _load("claim", adds=True), _load("begin", adds=True), _load("commit", adds=True)
_DELETE, _UNDELETE, _DROP, _KNOWN = _load("delete"), _load("undelete"), _load("drop"), _load("known")


@dataclass(frozen=True, slots=True)
class Generation:
    number: int
    fence: int
    made: float
    """Seconds since 1970."""
    size: int
    """Bytes of the profile."""
    stored: int
    """Bytes that were written for it."""
    chunks: int
    key: str
    """The id of the secret that it is sealed with."""
    browser: str
    backend: str
    content: str
    """The same where nothing has changed."""


@dataclass(frozen=True, slots=True)
class Written:
    """A generation that is written and was read back: what `commit` needs of it."""

    number: int
    size: int
    stored: int
    chunks: int
    key: str
    browser: str = ""
    backend: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    session: str
    fence: int
    deleted: float | None
    """Seconds since 1970; None: it is not."""
    generations: tuple[Generation, ...]
    """Newest first."""

    @property
    def newest(self) -> Generation | None:
        return self.generations[0] if self.generations else None


class Generations:
    """All methods raise StoreAway and StoreRefused."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(self, session: str) -> Profile:
        """For the start of a session, under a new fence: whoever had it before saves nothing more."""
        fence, deleted, flat = await self._run(_CLAIM, session)
        return Profile(session, int(fence), _moment(deleted), _generations(flat))

    async def begin(self, session: str, fence: int | None) -> tuple[int, int] | Refused:
        """Fence and number of a generation that may be written. `fence` None: that of a person, who is always right."""
        return _pair(await self._run(_BEGIN, session, "" if fence is None else fence))

    async def commit(self, session: str, fence: int, written: Written, *, keep: int) -> list[int] | Refused:
        """It is the newest one now. Which numbers are kept no more."""
        values = (written.number, written.size, written.stored, written.chunks)
        about = (written.key, written.browser, written.backend, written.content)
        return _numbers(await self._run(_COMMIT, session, fence, keep, *values, *about))

    async def delete(self, session: str, fence: int | None) -> bool | Refused:
        """False: nothing is known of it. `fence` None: by a person."""
        answer = await self._run(_DELETE, session, "" if fence is None else fence)
        return "stale" if answer == b"stale" else bool(answer)

    async def undelete(self, session: str) -> bool:
        return bool(await self._run(_UNDELETE, session))

    async def drop(self, session: str, numbers: Sequence[int]) -> list[int]:
        """Never the only one of a session that is not deleted."""
        return list(await self._run(_DROP, session, "", *numbers))

    async def erase(self, session: str) -> list[int]:
        """All of it, for good."""
        return list(await self._run(_DROP, session, "1"))

    async def of(self, session: str) -> Profile | None:
        _, _, rows = await self._run(_KNOWN, "0", _PAGE, session)
        return next(iter(_profiles(rows)), None)

    async def page(self, go_on: str = "0") -> tuple[str, list[Profile]]:
        """Where to go on (`0`: that was all), and some sessions."""
        _, after, rows = await self._run(_KNOWN, go_on, _PAGE, "")
        return after.decode(), _profiles(rows)

    async def _run(self, script: Script, *args: Arg) -> Any:
        return await self._store.run(script, KEYS, args)


def _pair(answer: Any) -> tuple[int, int] | Refused:
    if isinstance(answer, bytes):
        return "stale" if answer == b"stale" else "deleted"
    return int(answer[0]), int(answer[1])


def _numbers(answer: Any) -> list[int] | Refused:
    if isinstance(answer, bytes):
        return "stale" if answer == b"stale" else "deleted"
    return [int(number) for number in answer]


def _profiles(rows: Sequence[Any]) -> list[Profile]:
    return [
        Profile(rows[i].decode(), int(rows[i + 1]), _moment(rows[i + 2]), _generations(rows[i + 3]))
        for i in range(0, len(rows), 4)
    ]


def _generations(flat: Sequence[Any]) -> tuple[Generation, ...]:
    return tuple(_generation(flat[i : i + _VALUES]) for i in range(0, len(flat), _VALUES))


def _generation(cells: Sequence[bytes]) -> Generation:
    number, fence, made, size, stored, chunks = map(int, cells[:6])
    key, browser, backend, content = (cell.decode() for cell in cells[6:])
    return Generation(number, fence, made / 1000, size, stored, chunks, key, browser, backend, content)


def _moment(ms: bytes) -> float | None:
    return int(ms) / 1000 or None
