"""Networks by name, some of them only until a moment. What `trust.lists` and `trust.deny` become. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from sluice.config.units import Network

Address = IPv4Address | IPv6Address
_Found = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class ListEntry:
    network: Network
    until: float | None = None
    """Unix seconds of the first moment at which it no longer counts; None: it has no end."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class AddressList:
    """Which addresses are meant right now.

    What is remembered of an address are the entries it meets and their ends, never the answer: an entry ends by
    itself, and one without an end costs no more than it would if there were none with one.
    """

    entries: tuple[ListEntry, ...] = ()
    _met: Callable[[Address], _Found] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_met", lru_cache(maxsize=4_096)(self._find))

    @classmethod
    def joined(cls, lists: Iterable[AddressList]) -> AddressList:
        return cls(tuple(entry for one in lists for entry in one.entries))

    def __bool__(self) -> bool:
        return bool(self.entries)

    def holds(self, address: Address, now: float) -> bool:
        if not self.entries:
            return False
        return any(now < until for _, until in self._met(address))

    def max_prefix(self, address: Address, now: float) -> int | None:
        """Bits of the narrowest network that holds the address now; None: no one does."""
        return next((bits for bits, until in self._met(address) if now < until), None)

    def _find(self, address: Address) -> _Found:
        """Bits and end of each entry that holds the address, the narrowest first."""
        met = (entry for entry in self.entries if address in entry.network)
        found = [(entry.network.prefixlen, math.inf if entry.until is None else entry.until) for entry in met]
        return tuple(sorted(found, reverse=True))
