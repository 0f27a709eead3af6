"""Which logins of a disk were moved into the vault, and which wait until their browser has ended. Owns
`sl:{vault}:migrated`.

An entry is written before the first byte of its generation, with the fence under which that is saved. So whatever ends
a migration, the vault's own records say what it has written: the generations under that fence, and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from sluice.store.client import Store

_KEY = "sl:{vault}:migrated"
KEY_PATTERNS = (_KEY,)
CLAIMING = 1
"""In place of a fence that is about to be taken."""


@dataclass(frozen=True, slots=True)
class Entry:
    session: str
    source: str
    """Its folder or zip, an absolute path."""
    host: str
    """On which that lies."""
    at: float
    """Seconds since 1970: when it was moved, or seen to wait."""
    fence: int = 0
    """Under which its generations are saved; 0: it waits."""
    generation: int = 0
    """The last one that was restored and compared with what was read; 0: none yet."""
    content: str = ""
    """Of the source as that was read, by sizes and times."""

    @property
    def waits(self) -> bool:
        return not self.fence


async def note(store: Store, entry: Entry) -> None:
    """Raises StoreAway or StoreRefused, as all of these."""
    await store.commands(("HSET", _KEY, entry.session, orjson.dumps(entry)))


async def entries(store: Store) -> dict[str, Entry]:
    """By their sessions."""
    (found,) = await store.commands(("HGETALL", _KEY))
    return {session.decode(): Entry(**orjson.loads(entry)) for session, entry in found.items()}


async def strike(store: Store, session: str) -> None:
    await store.commands(("HDEL", _KEY, session))
