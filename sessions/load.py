"""How full a worker's machine is, by Linux's own numbers: a worker reports it, to be given no more than it can take."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_TICKS = os.sysconf("SC_CLK_TCK")


class Usage:
    """Asked once a beat."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._used = _cpu_seconds()

    def shares(self) -> Mapping[str, float] | None:
        """`memory`: the share of the machine's, or of the container's limit, that is in use. `cpu`: the share of all
        cores that this process and those that it started have used since it was asked last. None: the system does not
        tell."""
        memory, used, now = _memory(), _cpu_seconds(), time.monotonic()
        if memory is None or used is None or self._used is None or now <= self._at:
            return None
        # A child that ended takes its seconds with it.
        cpu = max(0.0, used - self._used) / (now - self._at) / (os.cpu_count() or 1)
        self._at, self._used = now, used
        return {"memory": round(memory, 3), "cpu": round(min(cpu, 1.0), 3)}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; what is only cached counts as free."""

    total: int
    free: int

    @property
    def used(self) -> float:
        """A share."""
        return 1 - self.free / self.total


def memories() -> tuple[Memory, ...]:
    """Of the machine, and of each container or service around this process that has a limit: all of them bind. Empty:
    the system does not tell."""
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
        kilobytes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        machine = Memory(kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024)
    except (OSError, KeyError, ValueError, IndexError):
        return ()
    return (machine, *_of_groups())


def _memory() -> float | None:
    return max((one.used for one in memories()), default=None)


def _of_groups() -> Iterator[Memory]:
    """As cgroup v2 has them: the innermost first."""
    within = Path()
    with suppress(OSError, StopIteration):
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
        within = Path(next(line[4:] for line in lines if line.startswith("0::/")))
    for group in (within, *within.parents):
        folder = _CGROUP / group
        with suppress(OSError, ValueError, KeyError):
            limit = int((folder / "memory.max").read_text())  # "max": none
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            used = int((folder / "memory.current").read_text()) - int(stat["inactive_file"])
            if limit > 0:
                yield Memory(limit, min(limit, max(0, limit - used)))


def _cpu_seconds() -> float | None:
    """Of this process and all its descendants."""
    parents, seconds = dict[int, int](), dict[int, float]()
    try:
        pids = [int(entry) for entry in os.listdir(_PROC) if entry.isdigit()]
    except OSError:
        return None
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):  # it has ended
            fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b") ")[2].split()
            parents[pid] = int(fields[1])
            seconds[pid] = (int(fields[11]) + int(fields[12])) / _TICKS
    return sum(seconds[pid] for pid in parents if _descends(pid, os.getpid(), parents))


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    for _ in range(len(parents)):
        if pid == ancestor:
            return True
        if pid not in parents:
            return False
        pid = parents[pid]
    return False
