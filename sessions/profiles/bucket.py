"""Chunks in a bucket that speaks S3: `<prefix>/<session>/<number>/<chunk>`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from sessions.profiles.errors import Broken, ContentsAway
from sessions.profiles.names import folder_of
from sessions.profiles.sealing import LONGEST
from sluice.observe.printable import printable

_TIMEOUT = 90.0
"""Seconds for one call, its repeats and their pauses included."""
_AT_ONCE = 16
_CODE = re.compile(r"<Code>([^<]+)</Code>(?:\s*<Message>([^<]*)</Message>)?")
_CREDENTIALS = "see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_CURES = {
    "NoSuchBucket": "make the bucket, or correct sessions.vault.url",
    "AccessDenied": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
}
T = TypeVar("T")


class InBucket:
    """`said`: how it is called in messages."""

    def __init__(self, objects: S3Store, said: str) -> None:
        self._objects = objects
        self._said = said

    async def put(self, session: str, of: int, name: str, sealed: bytes) -> None:
        await self._do("written", obstore.put_async(self._objects, _path(session, of, name), sealed))

    async def get(self, session: str, of: int, name: str) -> bytes | None:
        try:
            return await self._do("read", self._get(_path(session, of, name)))
        except FileNotFoundError:
            return None

    async def missing(self, session: str, chunks: Sequence[tuple[int, str]]) -> set[tuple[int, str]]:
        gone: set[tuple[int, str]] = set()
        for i in range(0, len(chunks), _AT_ONCE):
            some = chunks[i : i + _AT_ONCE]
            there = await asyncio.gather(*(self._is_there(_path(session, of, name)) for of, name in some))
            gone.update(chunk for chunk, is_there in zip(some, there, strict=True) if not is_there)
        return gone

    async def lying(self, session: str) -> dict[tuple[int, str], int]:
        return await self._do("read", self._list(f"{folder_of(session)}/"))

    async def erase(self, session: str, chunks: Iterable[tuple[int, str]]) -> None:
        paths = [_path(session, of, name) for of, name in chunks]
        for i in range(0, len(paths), _AT_ONCE):
            await asyncio.gather(*(self._erase(path) for path in paths[i : i + _AT_ONCE]))

    async def _get(self, path: str) -> bytes:
        found = await obstore.get_async(self._objects, path)
        if found.meta["size"] > LONGEST:
            raise Broken(f"{path} has {found.meta['size']:,} bytes, over {LONGEST:,}")
        return bytes(await found.bytes_async())

    async def _is_there(self, path: str) -> bool:
        try:
            await self._do("read", obstore.head_async(self._objects, path))
        except FileNotFoundError:
            return False
        return True

    async def _list(self, prefix: str) -> dict[tuple[int, str], int]:
        found: dict[tuple[int, str], int] = {}
        async for page in obstore.list(self._objects, prefix=prefix):
            for known in page:
                of, _, name = str(known["path"]).removeprefix(prefix).partition("/")
                if of.isdecimal():
                    found[int(of), name] = known["size"]
        return found

    async def _erase(self, path: str) -> None:
        try:
            await self._do("erased", obstore.delete_async(self._objects, path))
        except FileNotFoundError:
            return

    async def _do(self, what: str, doing: Awaitable[T]) -> T:
        """Raises ContentsAway, and FileNotFoundError where an object is not there."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await doing
        except TimeoutError:
            raise ContentsAway(f"{self._said} cannot be {what}: no answer within {_TIMEOUT:g} s") from None
        except (BaseError, OSError) as error:
            code, why = _reason(str(error))
            if isinstance(error, FileNotFoundError) and what != "written" and code != "NoSuchBucket":
                raise
            raise ContentsAway(f"{self._said} cannot be {what}: {why}") from error


def _path(session: str, of: int, name: str) -> str:
    return f"{folder_of(session)}/{of}/{name}"


def _reason(text: str) -> tuple[str, str]:
    """The code of an error, and what is said of it; the library's own text has addresses, and all that it tried."""
    found = _CODE.search(text)
    if not found:
        return "", printable(text.split("\n")[0].rpartition(" - ")[2][:200])
    code, message = found[1], found[2] or ""
    cure = f": {_CURES[code]}" if code in _CURES else ""
    return code, printable((f"{code} ({message.rstrip('.')})" if message else code)[:200]) + cure
