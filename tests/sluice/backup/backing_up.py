"""A store in use, taken into a file and brought back; and what lies in one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sluice.backup.file import Header, Trailer, Writer
from sluice.backup.reading import Reading
from sluice.backup.writing import Restored, Restoring, checked, refuse_store
from sluice.store.client import Store
from sluice.store.scan import scan


def nobody(_: str) -> None:
    return None


async def back_up(store: Store, path: Path, place: str = "store") -> tuple[Header, Trailer]:
    with Writer(path, replace=True) as out:
        return await Reading(store, out, nobody).run(place)


async def restore(store: Store, path: Path) -> Restored:
    found = checked(path)
    await refuse_store(store, found)
    return await Restoring(store, path, found, nobody).run()


@dataclass(frozen=True)
class Lying:
    """What a key holds, whatever its encoding; and when it expires."""

    value: object
    expires: int


async def lying(store: Store) -> dict[str, Lying]:
    found = {}
    for name in sorted([key async for key in scan(store, "sl:*")]):
        (kind, expires) = await store.commands(("TYPE", name), ("PEXPIRETIME", name))
        command: dict[bytes, tuple[bytes | str, ...]] = {
            b"string": ("GET", name),
            b"hash": ("HGETALL", name),
            b"list": ("LRANGE", name, "0", "-1"),
            b"set": ("SMEMBERS", name),
            b"zset": ("ZRANGE", name, "0", "-1", "WITHSCORES"),
            b"stream": ("XRANGE", name, "-", "+"),
        }
        if kind != b"none":
            (value,) = await store.commands(command[kind])
            found[name.decode()] = Lying(sorted(value) if kind == b"set" else value, expires)
    return found
