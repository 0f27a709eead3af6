"""The processes of this deployment on this machine: which there are, and what the operating system says of each.

Each says at its start who it is; whoever is asked for the page of metrics reads `/proc`, where there is one.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Gauge
from prometheus_client.core import Metric

RESTARTS = "SLUICE_RESTARTS"
"""The environment variable by which a supervisor tells a process how often it was started again."""
_PROC = Path("/proc")
_MAX_FILES = re.compile(r"^Max open files +([0-9]+) ", re.MULTILINE)
_PID = Gauge("sluice_process_pid", "The process id.", ["process"], multiprocess_mode="livemostrecent")
_RESTARTS = Gauge(
    "sluice_process_restarts",
    "How often the process was started again since `sluice up` began.",
    ["process"],
    multiprocess_mode="livemostrecent",
)


@dataclass(frozen=True, slots=True)
class Usage:
    cpu: float
    """Seconds of CPU time, of user and system."""
    memory: int
    """Resident bytes."""
    files: int
    """Open file descriptors."""
    max_files: int | None
    """The most that it may have; None: any number."""
    started: float
    """Unix seconds."""


def started(process: str) -> None:
    """To be called once at the start. `process`: its name, as in the log."""
    restarts = os.environ.get(RESTARTS, "0")
    _PID.labels(process).set(os.getpid())
    _RESTARTS.labels(process).set(int(restarts) if restarts.isdecimal() else 0)


def usage(pid: int) -> Usage | None:
    """None where the process is gone, or where there is no /proc."""
    folder = _PROC / str(pid)
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        pages = int((folder / "statm").read_text().split()[1])
        files = (folder / "fd").stat().st_size or len(os.listdir(folder / "fd"))
        max_files = _MAX_FILES.search((folder / "limits").read_text())
        ticks = os.sysconf("SC_CLK_TCK")
        began = _booted() + int(fields[19]) / ticks
    except (OSError, ValueError, IndexError):
        return None
    return Usage(
        (int(fields[11]) + int(fields[12])) / ticks,
        pages * os.sysconf("SC_PAGE_SIZE"),
        files,
        int(max_files[1]) if max_files else None,
        began,
    )


def _booted() -> float:
    """Unix seconds, as of now: the clock may have been set since."""
    return time.time() - float((_PROC / "uptime").read_text().split()[0])


GAUGES: Mapping[str, tuple[str, Callable[[Usage], float]]] = {
    "process_cpu_seconds_total": ("CPU time of the process, of user and system.", lambda usage: usage.cpu),
    "process_resident_memory_bytes": ("Memory of the process that is resident.", lambda usage: usage.memory),
    "process_open_fds": ("File descriptors that the process has open.", lambda usage: usage.files),
    "process_max_fds": (
        "The most file descriptors that the process may have open.",
        lambda usage: math.inf if usage.max_files is None else usage.max_files,
    ),
    "process_start_time_seconds": ("When the process was started, unix time.", lambda usage: usage.started),
}


def named(counted: Iterable[Metric]) -> dict[str, int]:
    """The processes that have said who they are and still run, by name: their ids. Of what the registry collects."""
    return {labels["process"]: int(value) for labels, value in _samples(counted, "sluice_process_pid")}


def restarts(counted: Iterable[Metric]) -> dict[str, int]:
    """How often each was started again."""
    return {labels["process"]: int(value) for labels, value in _samples(counted, "sluice_process_restarts")}


def _samples(counted: Iterable[Metric], name: str) -> Iterator[tuple[Mapping[str, str], float]]:
    for family in counted:
        if family.name == name:
            for sample in family.samples:
                yield sample.labels, sample.value
