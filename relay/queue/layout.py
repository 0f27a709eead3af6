"""Where events and the queues of the endpoints lie in the store.

A partition is one slot: its events, each once, as `lua/events.lua` explains them, and of each endpoint the queue of
what it is to get of them (`lua/partition.lua`). Owns these keys and the channels `sl:wake:<endpoint>`.
"""

from __future__ import annotations

import binascii
from functools import lru_cache

PARTITIONS = 4
"""Part of the layout: with another number waiting events would be looked for in other places."""

MAX_HISTORY = 25_000
"""Events that have left of which the history is kept, for each endpoint in each partition; about 100 bytes each."""

SHARED = ("events", "refs", "dedupe", "seq")
_OF_ALL = ("endpoints", "fences")
OWN = (
    *("queue", "urgent", "normal", "bulk", "leases", "attempts"),
    *("latest", "dead", "reasons", "counts", "history", "delayed", "left_out", "bodies", "kept", "awaits"),
)
KEY_PATTERNS = (
    *(f"sl:{{<nn>}}:{name}" for name in (*SHARED, *_OF_ALL)),
    *(f"sl:{{<nn>}}:<endpoint>:{name}" for name in OWN),
)
CHANNEL_PATTERNS = ("sl:wake:<endpoint>",)


def shared_keys(partition: int) -> list[str]:
    """Of the events themselves, in the order of `SHARED`."""
    return [shared_key(partition, name) for name in SHARED]


def shared_key(partition: int, name: str) -> str:
    """`name`: one of `SHARED`."""
    return f"sl:{{{partition:02d}}}:{name}"


def endpoints_key(partition: int) -> str:
    """The names of all endpoints that have keys here, whatever the policies say of them."""
    return f"sl:{{{partition:02d}}}:endpoints"


def fences_key(partition: int) -> str:
    """The highest fence under which an event of each session was accepted."""
    return f"sl:{{{partition:02d}}}:fences"


@lru_cache(maxsize=1024)
def own_keys(endpoint: str, partition: int) -> tuple[str, ...]:
    """Of one endpoint, in the order of `OWN`."""
    return tuple(own_key(endpoint, partition, name) for name in OWN)


def own_key(endpoint: str, partition: int, name: str) -> str:
    """`name`: one of `OWN`."""
    return f"sl:{{{partition:02d}}}:{endpoint}:{name}"


def keys(endpoint: str, partition: int) -> list[str]:
    """All keys that a script about one endpoint needs, those of the events first; all are in one slot."""
    return [*shared_keys(partition), *own_keys(endpoint, partition)]


def any_key(partition: int) -> str:
    """For who needs some key of the partition's slot."""
    return shared_key(partition, "seq")


def partition_of(ordering_key: str) -> int:
    """The same for all lanes and endpoints."""
    return binascii.crc_hqx(ordering_key.encode(), 0) % PARTITIONS


def wake_channel(endpoint: str) -> str:
    """On it is published which partitions have something new. Only a hint."""
    return f"sl:wake:{endpoint}"
