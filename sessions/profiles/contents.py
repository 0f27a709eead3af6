"""Where the sealed chunks of profiles lie: in the store itself; in a folder (`folder.py`) or a bucket (`bucket.py`).

A chunk belongs to the number under which it was written, and only whoever was given that number writes there; so nobody
waits for anybody. Manifests always lie in the store, beside the record that says which of them counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from sessions.profiles.errors import ContentsAway as ContentsAway, ContentsFull as ContentsFull
from sluice.store.client import Store

KEY_PATTERNS = ("sl:{vault:<session>}:manifests", "sl:{vault:<session>}:chunks")
_AT_ONCE = 64


class Contents(Protocol):
    """All raise StoreAway, StoreRefused or ContentsAway."""

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        """When it returns, a crash of the machine does not lose it, as far as the place can promise that."""
        ...

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        """None: it is not there."""
        ...

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        """Which of them are not there."""
        ...

    async def lying(self, session: str) -> dict[tuple[int, str], int]:
        """All that lies there of a session, with its bytes, whether a generation names it or not. What was written just
        now may be absent."""
        ...

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Those that are gone already count as erased."""
        ...


class Manifests:
    """Sealed, each under the number with which it was written. In the store, whatever lies elsewhere."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, session: str, number: int, sealed: bytes) -> bool:
        """False: another one lies there, which only a store that has lost its last writes brings about."""
        (is_new,) = await self._store.commands(("HSETNX", _manifests(session), str(number), sealed))
        return bool(is_new) or await self.get(session, number) == sealed

    async def get(self, session: str, number: int) -> bytes | None:
        (found,) = await self._store.commands(("HGET", _manifests(session), str(number)))
        return None if found is None else bytes(found)

    async def lying(self, session: str) -> dict[int, int]:
        """The bytes of each that is there."""
        (numbers,) = await self._store.commands(("HKEYS", _manifests(session)))
        if not numbers:
            return {}
        sizes = await self._store.commands(*(("HSTRLEN", _manifests(session), number) for number in numbers))
        return dict(zip(map(int, numbers), sizes, strict=True))

    async def erase(self, session: str, numbers: Iterable[int]) -> None:
        meant = [str(number) for number in numbers]
        if meant:
            await self._store.commands(("HDEL", _manifests(session), *meant))


class InStore:
    """One HASH for each session: `<number>/<name>` -> the chunk."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        await self._store.commands(("HSET", _chunks(session), f"{of}/{name}", sealed))

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        (found,) = await self._store.commands(("HGET", _chunks(session), f"{of}/{name}"))
        return None if found is None else bytes(found)

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        there = await self._sizes(session, [f"{of}/{name}" for of, name in chunks])
        return {chunk for chunk, size in zip(chunks, there, strict=True) if not size}

    async def lying(self, session: str) -> dict[tuple[int, str], int]:
        (found,) = await self._store.commands(("HKEYS", _chunks(session)))
        fields = [field.decode() for field in found]
        named = [(int(of), name) for of, _, name in (field.partition("/") for field in fields)]
        return dict(zip(named, await self._sizes(session, fields), strict=True))

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        fields = [f"{of}/{name}" for of, name in chunks]
        for i in range(0, len(fields), _AT_ONCE):
            await self._store.commands(("HDEL", _chunks(session), *fields[i : i + _AT_ONCE]))

    async def _sizes(self, session: str, fields: Sequence[str]) -> list[int]:
        sizes: list[int] = []
        for i in range(0, len(fields), _AT_ONCE):
            some = fields[i : i + _AT_ONCE]
            sizes += await self._store.commands(*(("HSTRLEN", _chunks(session), field) for field in some))
        return sizes


def _manifests(session: str) -> str:
    return f"sl:{{vault:{session}}}:manifests"


def _chunks(session: str) -> str:
    return f"sl:{{vault:{session}}}:chunks"
