"""How many connections each address has, so that none takes all the files that a process may have open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sluice.process import files

Share = Callable[[str], tuple[str, int]]
"""What a peer counts as (its network, of IPv6), and how many connections that may have once there are many."""


def no_share(peer: str) -> tuple[str, int]:
    return peer, files.first_reserved()


class Crowd:
    """Of one server. What is counted is bounded by the connections that there are."""

    def __init__(self, share: Share = no_share) -> None:
        self._share = share
        self._connections: dict[str, int] = {}

    def enter(self, transport: asyncio.BaseTransport, peer: str) -> tuple[str, int]:
        """What it counts as, until `leave`; and how many more than its share its address has, once half of the files
        for clients are used."""
        counts_as, most = self._share(peer)
        has = self._connections[counts_as] = self._connections.get(counts_as, 0) + 1
        return counts_as, max(0, has - most) if files.are_half_used(transport) else 0

    def leave(self, counts_as: str) -> None:
        left = self._connections[counts_as] - 1
        if left:
            self._connections[counts_as] = left
        else:
            del self._connections[counts_as]
