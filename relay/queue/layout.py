"""Where events and the queues of the endpoints lie in the store.

A partition is one slot: its events, each once (`sl:{<partition>}:*`, as `lua/events.lua` explains them), and of each
endpoint the queue of what it is to get of them (`sl:{<partition>}:<endpoint>:*`, `lua/partition.lua`). Owns these keys
and the channels `sl:wake:<endpoint>`.
"""

from __future__ import annotations

import binascii
from functools import lru_cache

PARTITIONS = 4
"""Part of the layout: another number would look for waiting events in other places."""

MAX_HISTORY = 25_000
"""Of how many events that left something is kept, for each endpoint in each partition; about 100 bytes each."""

SHARED = ("events", "refs", "ids", "seq")
OWN = (
    *("queue", "urgent", "normal", "bulk", "owners", "attempts"),
    *("latest", "dead", "reasons", "counts", "left"),
)
KEYS = SHARED + OWN


def shared_keys(partition: int) -> list[str]:
    """Of the events themselves, in the order of `SHARED`."""
    return [f"sl:{{{partition:02d}}}:{name}" for name in SHARED]


@lru_cache(maxsize=1024)
def own_keys(endpoint: str, partition: int) -> tuple[str, ...]:
    """Of one endpoint, in the order of `OWN`."""
    return tuple(f"sl:{{{partition:02d}}}:{endpoint}:{name}" for name in OWN)


def keys(endpoint: str, partition: int) -> list[str]:
    """All keys that a script about one endpoint needs, in the order of `KEYS`, in one slot."""
    return [*shared_keys(partition), *own_keys(endpoint, partition)]


def partition_of(what: str) -> int:
    """By the session, or by the event's id where there is none: lanes and endpoints lie together."""
    return binascii.crc_hqx(what.encode(), 0) % PARTITIONS


def wake_channel(endpoint: str) -> str:
    """Where it is said which partitions have something new. Only a hint."""
    return f"sl:wake:{endpoint}"
