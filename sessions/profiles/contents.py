"""Where the sealed chunks of profiles lie: in the store itself, or in a folder or a bucket.

A chunk belongs to the generation in which it was written, and only whoever writes that generation writes it; so nobody
waits for anybody here. Manifests always lie in the store, beside the record that says which of them counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol
from urllib.parse import quote

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from sessions.profiles.errors import ContentsAway as ContentsAway
from sluice.store.client import Store

_AT_ONCE = 64


class Contents(Protocol):
    """All raise StoreAway, StoreRefused or ContentsAway."""

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None: ...

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        """None: it is not there."""
        ...

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        """Which of them are not there."""
        ...

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        """Those that are there already gone count as erased."""
        ...


class Manifests:
    """Of each generation, sealed. In the store, whatever lies elsewhere."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, session: str, number: int, sealed: bytes) -> None:
        await self._store.commands(("HSET", _manifests(session), str(number), sealed))

    async def get(self, session: str, number: int) -> bytes | None:
        (found,) = await self._store.commands(("HGET", _manifests(session), str(number)))
        return None if found is None else bytes(found)

    async def numbers(self, session: str) -> list[int]:
        (found,) = await self._store.commands(("HKEYS", _manifests(session)))
        return sorted(int(number) for number in found)

    async def erase(self, session: str, numbers: Iterable[int]) -> None:
        meant = [str(number) for number in numbers]
        if meant:
            await self._store.commands(("HDEL", _manifests(session), *meant))


class InStore:
    """A HASH for each generation; the whole of a session is in one slot."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        await self._store.commands(("HSET", _chunks(session, of), name, sealed))

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        (found,) = await self._store.commands(("HGET", _chunks(session, of), name))
        return None if found is None else bytes(found)

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        gone: set[tuple[int, str]] = set()
        for i in range(0, len(chunks), _AT_ONCE):
            some = chunks[i : i + _AT_ONCE]
            found = await self._store.commands(*(("HEXISTS", _chunks(session, of), name) for of, name in some))
            gone.update(chunk for chunk, there in zip(some, found, strict=True) if not there)
        return gone

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        meant = list(chunks)
        for i in range(0, len(meant), _AT_ONCE):
            await self._store.commands(*(("HDEL", _chunks(session, of), name) for of, name in meant[i : i + _AT_ONCE]))


class InObjects:
    """`<session>/<generation>/<chunk>` in a folder (`file:///…`) or a bucket (`s3://…`)."""

    def __init__(self, objects: LocalStore | S3Store) -> None:
        self._objects = objects

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        try:
            await obstore.put_async(self._objects, _path(session, of, name), sealed)
        except (BaseError, OSError) as error:
            raise ContentsAway(_cannot("written", error)) from error

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        try:
            found = await obstore.get_async(self._objects, _path(session, of, name))
            return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise ContentsAway(_cannot("read", error)) from error

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        return {(of, name) for of, name in chunks if not await self._is_there(_path(session, of, name))}

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        for of, name in chunks:
            try:
                await obstore.delete_async(self._objects, _path(session, of, name))
            except FileNotFoundError:
                continue
            except (BaseError, OSError) as error:
                raise ContentsAway(_cannot("erased", error)) from error

    async def _is_there(self, path: str) -> bool:
        try:
            await obstore.head_async(self._objects, path)
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise ContentsAway(_cannot("read", error)) from error
        return True


def _manifests(session: str) -> str:
    return f"sl:{{vault:{session}}}:manifests"


def _chunks(session: str, of: int) -> str:
    return f"sl:{{vault:{session}}}:chunks:{of}"


def _path(session: str, of: int, name: str) -> str:
    """No name of a session leads out of its folder."""
    return f"{quote(session, safe='').replace('.', '%2E')}/{of}/{name}"


def _cannot(what: str, error: Exception) -> str:
    return f"the vault cannot be {what}: {str(error).splitlines()[0]}"
