"""Where an endpoint's queue lies in the store.

Owns the keys `sl:{<endpoint>:<partition>}:*`, as `relay/lua/partition.lua` explains them, and the channel
`sl:wake:<endpoint>`.
"""

from __future__ import annotations

import binascii

PARTITIONS = 4
"""Part of the layout: another number would look for waiting events in other places."""

KEYS = (
    *("events", "queue", "urgent", "normal", "bulk", "owners", "attempts"),
    *("ids", "latest", "dead", "reasons", "counts"),
)


def keys(endpoint: str, partition: int) -> list[str]:
    """All keys of a partition, in the order of `KEYS`, in one slot."""
    return [f"sl:{{{endpoint}:{partition:02d}}}:{name}" for name in KEYS]


def partition_of(stream: str) -> int:
    """By the session alone: its lanes lie together."""
    return binascii.crc_hqx(stream[1:].encode(), 0) % PARTITIONS


def wake_channel(endpoint: str) -> str:
    """Where it is said which partitions have something new. Only a hint."""
    return f"sl:wake:{endpoint}"
