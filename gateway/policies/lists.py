"""Networks by name, some of them only until a moment. What `trust.lists`, `deny` and `proxies` become. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from gateway.policies.ranges import Met, Ranges
from sluice.config.units import Network

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class ListEntry:
    network: Network
    until: float | None = None
    """Unix seconds of the first moment at which it no longer counts; None: it has no end."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class AddressList:
    """Which addresses are meant right now. A look-up takes about a microsecond, however many networks there are."""

    entries: tuple[ListEntry, ...] = ()
    _ipv4: Ranges = field(init=False, repr=False, compare=False)
    _ipv6: Ranges = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for version, name in ((4, "_ipv4"), (6, "_ipv6")):
            object.__setattr__(self, name, Ranges(_rows(self.entries, version)))
        object.__setattr__(self, "_hash", hash(self.entries))

    def __hash__(self) -> int:
        return self._hash  # once: what is remembered of a client is remembered for the proxies that it came by

    @classmethod
    def joined(cls, lists: Iterable[AddressList]) -> AddressList:
        return cls(tuple(entry for one in lists for entry in one.entries))

    def __bool__(self) -> bool:
        return bool(self.entries)

    def holds(self, address: Address, now: float) -> bool:
        return any(now < until for _, until in self.met(address))

    def max_prefix(self, address: Address, now: float) -> int | None:
        """Bits of the narrowest network that holds the address now; None: no one does."""
        return next((bits for bits, until in self.met(address) if now < until), None)

    def covers(self, network: Network, now: float) -> bool:
        """Whether one entry holds all of it now."""
        return any(bits <= network.prefixlen and now < until for bits, until in self.met(network.network_address))

    def met(self, address: Address) -> Met:
        """Bits and end of each network that holds the address, the narrowest first."""
        return (self._ipv4 if address.version == 4 else self._ipv6).met(int(address))


def _rows(entries: Iterable[ListEntry], version: int) -> Iterable[tuple[int, int, int, float]]:
    for network, until in ((entry.network, entry.until) for entry in entries if entry.network.version == version):
        first, last = int(network.network_address), int(network.broadcast_address)
        yield first, last, network.prefixlen, math.inf if until is None else until
