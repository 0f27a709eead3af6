"""Processes pinned to a core, what they cost, and their end. Nothing is ever stopped by name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 10.0
_ENDED_CHILDREN = 13  # their user time in /proc/<pid>/stat, counted after the command's name; then their system time
_SCHEDULED = 2  # CPUCLOCK_SCHED: the time on a core


class NotReady(Exception):
    """A process ended or did not answer; the message holds the end of its log."""


@contextmanager
def started(
    command: Sequence[str], core: int, log: Path, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process in a session of its own, so that Ctrl-C reaches us first and we end it in order."""
    pinned = [shutil.which("taskset") or "taskset", "-c", str(core), *command]
    with log.open("ab") as out:
        process = subprocess.Popen(
            pinned,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    with ExitStack() as stack:
        stack.callback(_end, process)
        yield process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its descendants, ended ones too once they were waited for."""
    try:
        own = time.clock_gettime(_cpu_clock(pid))
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    ended = sum(int(ticks) for ticks in fields[_ENDED_CHILDREN : _ENDED_CHILDREN + 2]) / _TICKS
    return own + ended + sum(cpu_seconds(child) for child in _children(pid))


def _cpu_clock(pid: int) -> int:
    """What clock_getcpuclockid(3) gives. It counts nanoseconds, /proc/<pid>/stat only hundredths of a second, which is
    too coarse for a store in a slice."""
    return (~pid << 3) | _SCHEDULED


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tail(log: Path, lines: int = 5) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else ""
