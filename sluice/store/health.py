"""What the store says of itself: its version, how full its memory is, and whether it keeps what it is given."""

from __future__ import annotations

from dataclasses import dataclass

from sluice.store.client import Store


@dataclass(frozen=True, slots=True)
class StoreHealth:
    version: str
    """Such as `valkey 8.1.3`."""
    pid: int
    up: float
    """Seconds since it was started."""
    memory: int
    max_memory: int
    """Bytes; 0: as much as the machine has."""
    machine: int
    """Bytes of memory that its machine has; 0: it does not say."""
    appends: bool
    """It has an append-only file."""
    file: int
    """Bytes of that file."""
    failing: str
    """What it could not write the last time it tried; empty: nothing."""


async def health_of(store: Store) -> StoreHealth:
    """Behind Sentinels: of the master. Of a cluster: of the server that is worst, as one that cannot write or is full
    refuses its part of everything. Raises StoreAway or StoreRefused."""
    known = [health_in(reply.decode("utf-8", "replace")) for (reply,) in await store.each(("INFO",))]
    return max(known, key=_badness)


def _badness(health: StoreHealth) -> tuple[bool, bool, float]:
    most = health.max_memory or health.machine
    return bool(health.failing), not health.appends, health.memory / most if most else 0.0


def health_in(info: str) -> StoreHealth:
    """Of the text that INFO answers; what a store does not say counts as well."""
    said = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    valkey = said.get("valkey_version")
    failing = [what for name, what in _WRITES.items() if said.get(name, "ok") != "ok"]
    return StoreHealth(
        version=f"valkey {valkey}" if valkey else f"redis {said.get('redis_version', 'unknown')}",
        pid=_number(said, "process_id"),
        up=_number(said, "uptime_in_seconds"),
        memory=_number(said, "used_memory"),
        max_memory=_number(said, "maxmemory"),
        machine=_number(said, "total_system_memory"),
        appends=said.get("aof_enabled", "1") == "1",
        file=_number(said, "aof_current_size"),
        failing=" and ".join(failing),
    )


_WRITES = {
    "aof_last_write_status": "its append-only file",
    "aof_last_bgrewrite_status": "the rewrite of its append-only file",
    "rdb_last_bgsave_status": "its snapshot",
}


def _number(said: dict[str, str], name: str) -> int:
    value = said.get(name, "")
    return int(value) if value.isdecimal() else 0
