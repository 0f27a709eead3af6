"""How much memory processes have, by Linux's own numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable

_PAGE = os.sysconf("SC_PAGE_SIZE")


def private_memory(pids: Iterable[int]) -> int:
    """Bytes that these processes have to themselves, which is what would be free without them. One that is gone has
    none. Each costs microseconds; `smaps_rollup`, which also divides what is shared, would cost milliseconds."""
    return sum(map(_private, pids))


def proportional_memory(pids: Iterable[int]) -> int:
    """Bytes that these processes take (PSS): what several share is divided among them. One that is gone takes none.
    Each costs milliseconds."""
    return sum(map(_proportional, pids))


def _proportional(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")), 0)
    except OSError:
        return 0


def _private(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            _, resident, shared, *_ = map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (resident - shared) * _PAGE
