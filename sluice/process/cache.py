"""What is worked out once of foreign input and kept, never more than so many bytes of it. No I/O.

A number of entries bounds nothing while strangers choose how long each of them is: whatever is kept by something that
came from outside lies in one of these two.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
ENTRY: Final = 256
"""Bytes that an entry takes beside what it is made of: its place in the table, and the objects around its bytes."""
_PLACE: Final = 128
"""Bytes more for the place in the order in which they were kept."""
_SHARE: Final = 16
"""What is over one part in so many of the whole is not kept: a few of those would take everybody's place."""


class Cache(Generic[K, V]):
    """What can be worked out again at any time. When `limit` bytes are used it is emptied: so a hit is one look into a
    dictionary and moves nothing, and a flood of strange keys costs the usual ones one miss in each fill."""

    __slots__ = ("_limit", "known", "used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.known: dict[K, V] = {}
        """For loops that look for many keys at once; never written to from outside, and always the same object."""
        self.used = 0
        """Bytes, about."""

    def get(self, key: K) -> V | None:
        return self.known.get(key)

    def keep(self, key: K, value: V, size: int) -> V:
        """The value. `size`: the bytes that key and value hold together, about."""
        size += ENTRY
        if size * _SHARE <= self._limit:
            self.used += size
            if self.used > self._limit:
                self.known.clear()
                self.used = size
            self.known[key] = value
        return value


class Latest(Generic[K, V]):
    """What was learned and cannot be worked out again. When `limit` bytes are used, what was kept longest ago goes."""

    __slots__ = ("_entries", "_limit", "used")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.used = 0
        """Bytes, about."""

    def get(self, key: K) -> V | None:
        found = self._entries.get(key)
        return None if found is None else found[0]

    def keep(self, key: K, value: V, size: int) -> list[K]:
        """Under which keys others went for it. `size` as for `Cache.keep`."""
        self.drop(key)
        size += ENTRY + _PLACE
        gone: list[K] = []
        if size * _SHARE <= self._limit:
            self._entries[key] = (value, size)
            self.used += size
            while self.used > self._limit:
                oldest, (_, freed) = self._entries.popitem(last=False)
                self.used -= freed
                gone.append(oldest)
        return gone

    def renew(self, key: K) -> None:
        """As if it, which is there, had been kept just now."""
        self._entries.move_to_end(key)

    def drop(self, key: K) -> V | None:
        """What was kept under it."""
        found = self._entries.pop(key, None)
        if found is None:
            return None
        self.used -= found[1]
        return found[0]

    def items(self) -> list[tuple[K, V]]:
        """As it is at this moment, what was kept longest ago first."""
        return [(key, value) for key, (value, _) in self._entries.items()]

    def clear(self) -> None:
        self._entries.clear()
        self.used = 0

    def __len__(self) -> int:
        return len(self._entries)
