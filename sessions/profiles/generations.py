"""Which generations of each session's profile there are, and who may add one.

             claim: a start            begin              commit
    (none) ─────────────▶ claimed ───────────────▶ writing ──────▶ kept, newest of `keep`
                             ▲   later claim: 'stale'   │             │ delete: a logout, a person
                             └──────────────────────────┘             ▼
                                               undelete ◀──────── deleted ── drop, settle, forget ──▶ (none)

The bytes lie elsewhere (`sessions.profiles.contents`); a generation counts from the one step that makes it the newest.
There is no TTL: only `commit` and `drop` end one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sessions.profiles.manifest import UNPROVEN
from sluice.store.client import Arg, Script, Store, load_script

KEYS = ("sl:{vault}:profiles", "sl:{vault}:fence", "sl:{vault}:forgotten")
KEY_PATTERNS = KEYS
Refused = Literal["stale", "deleted"]
"""A later start has the session, or its login was deleted."""
_PAGE = 200
_VALUES = 11
SHRUNK = 4
"""So many times smaller than the ones before it may be a failure; `commit.lua` knows it, too."""


def _load(name: str, *, adds: bool = False) -> Script:
    return load_script("sessions.profiles", "generations", name, drains=not adds)


_BEGIN = _load("begin", adds=True)
_CLAIM, _COMMIT, _RENEW, _RESEALED = _load("claim"), _load("commit"), _load("renew"), _load("resealed")
_DELETE, _UNDELETE, _DROP, _TRIM = _load("delete"), _load("undelete"), _load("drop"), _load("trim")
_SETTLE, _FORGET, _KNOWN = _load("settle"), _load("forget"), _load("known")
_BEGIN_ANEW = _load("begin_anew")


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
    under: int
    """The number under which its manifest lies: its own one, until it is sealed anew."""

    @property
    def unproven(self) -> bool:
        """Nobody knows whether it has a login."""
        return self.browser.endswith(UNPROVEN)


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
    begun: int
    """The last number that was given to a generation."""
    begun_at: float | None
    settled: int
    """No number up to this one can become a generation any more."""
    generations: tuple[Generation, ...]
    """Newest first."""

    @property
    def newest(self) -> Generation | None:
        return self.generations[0] if self.generations else None

    @property
    def last_good(self) -> Generation | None:
        """An older one of over four times the size of all newer ones, which may be a failure: it stays until a person
        drops it or they grow again. None: the newest one is like those before it."""
        largest = 0
        for generation in self.generations:
            if 0 < largest * SHRUNK < generation.size:
                return generation
            largest = max(largest, generation.size)
        return None


class Generations:
    """All methods raise StoreAway and StoreRefused."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def claim(self, session: str) -> Profile:
        """For the start of a session, under a new fence: whoever had it before saves nothing more."""
        return _profile(await self._run(_CLAIM, session))

    async def begin_anew(self, step: float) -> int:
        """After a backup was restored: fences go on `step` seconds after now. Returns what counts as the last one."""
        return int(await self._run(_BEGIN_ANEW, round(step * 1_000_000)))

    async def begin(self, session: str, fence: int | None) -> int | Refused:
        """The number of a generation that may be written. `fence` None: of one that is sealed anew, which disturbs
        nobody."""
        answer = await self._run(_BEGIN, session, "" if fence is None else fence)
        return _refused(answer) or int(answer)

    async def commit(
        self, session: str, fence: int, written: Written, *, keep: int, on: Generation | None = None
    ) -> list[int] | Refused | Literal["moved"]:
        """It is the newest one now. Which numbers are kept no more.

        `on`: the one whose chunks it shares. `moved`: that one is not kept as it was, so some of them may be gone.
        """
        values = (written.number, written.size, written.stored, written.chunks)
        about = (written.key, written.browser, written.backend, written.content)
        answer = await self._run(_COMMIT, session, fence, keep, *_place_of(on), *values, *about)
        if answer == b"moved":
            return "moved"
        return _refused(answer) or [int(number) for number in answer]

    async def renew(self, session: str, fence: int, newest: Generation) -> bool | Refused:
        """It was made now. False: it is not the newest one any more."""
        answer = await self._run(_RENEW, session, fence, newest.number, newest.under)
        return _refused(answer) or bool(answer)

    async def resealed(
        self, session: str, generation: Generation, under: int, key: str, stored: int, *, on: Generation | None = None
    ) -> bool:
        """It lies under another number from now on, with chunks of `on`. False: one of them is not kept as it was, or a
        later number counts already."""
        values = (generation.number, generation.under, under, key, stored)
        return bool(await self._run(_RESEALED, session, *values, *_place_of(on)))

    async def delete(self, session: str, fence: int | None, *, goes_on: bool = False) -> bool | Literal["stale"]:
        """False: nothing is known of it. `fence` None: by a person. `goes_on`: whoever has this fence waits for the
        next login, and saves it under the same one."""
        answer = await self._run(_DELETE, session, "" if fence is None else fence, int(goes_on))
        return "stale" if answer == b"stale" else bool(answer)

    async def undelete(self, session: str) -> bool:
        return bool(await self._run(_UNDELETE, session))

    async def drop(self, session: str, numbers: Sequence[int], *, deleted_for: float | None = None) -> list[int]:
        """Never the only one of a session that is not deleted. `deleted_for` (seconds): only of one that has been
        deleted for so long. Which are kept no more."""
        return list(await self._run(_DROP, session, _ms(deleted_for), *numbers))

    async def trim(self, session: str, keep: int, *, dry_run: bool = False) -> list[int]:
        """Those beyond `keep` go, but for the last good one. Which are kept no more."""
        return list(await self._run(_TRIM, session, keep, int(dry_run)))

    async def settle(self, session: str, *, begun_for: float | None = None) -> bool:
        """What was begun so many seconds ago (None: whenever) and does not count, will not."""
        return bool(await self._run(_SETTLE, session, _ms(begun_for)))

    async def is_settled(self, session: str, number: int) -> bool:
        profile = await self.of(session)
        return profile is None or number <= profile.settled

    async def forget(self, session: str) -> bool:
        """The record of a deleted session of which nothing is left. False: something is."""
        return bool(await self._run(_FORGET, session))

    async def of(self, session: str) -> Profile | None:
        _, _, rows = await self._run(_KNOWN, "0", _PAGE, session)
        return _profile(rows[0]) if rows else None

    async def page(self, go_on: str = "0") -> tuple[str, list[Profile]]:
        """Where to go on (`0`: that was all), and some sessions."""
        _, after, rows = await self._run(_KNOWN, go_on, _PAGE, "")
        return after.decode(), [_profile(row) for row in rows]

    async def _run(self, script: Script, *args: Arg) -> Any:
        return await self._store.run(script, KEYS, args)


def _refused(answer: Any) -> Refused | None:
    if not isinstance(answer, bytes):
        return None
    return "stale" if answer == b"stale" else "deleted"


def _profile(row: Sequence[Any]) -> Profile:
    session, fence, deleted, begun, begun_at, settled, flat = row
    generations = tuple(_generation(flat[i : i + _VALUES]) for i in range(0, len(flat), _VALUES))
    return Profile(
        session.decode(), int(fence), _moment(deleted), int(begun), _moment(begun_at), int(settled), generations
    )


def _generation(cells: Sequence[bytes]) -> Generation:
    number, fence, made, size, stored, chunks = map(int, cells[:6])
    key, browser, backend, content = (cell.decode() for cell in cells[6:10])
    return Generation(number, fence, made / 1000, size, stored, chunks, key, browser, backend, content, int(cells[10]))


def _moment(ms: bytes) -> float | None:
    return int(ms) / 1000 or None


def _ms(seconds: float | None) -> Arg:
    return "" if seconds is None else int(seconds * 1000)


def _place_of(generation: Generation | None) -> tuple[int, int]:
    return (0, 0) if generation is None else (generation.number, generation.under)
