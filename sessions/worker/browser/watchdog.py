"""Kills a worker's browsers when its lease is over and it has not closed them: its event loop is stuck, or it is gone.

    python watchdog.py

A program of its own, which outlives the worker. Each line of its input is `until MOMENT` (of the clock that goes on
while a machine is suspended) or the numbers of all processes at the head of a browser, `runs PID PID …`. When the
moment has passed, or its input ends, they are killed with all processes below them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

_LOOK_EVERY = 0.2
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _below(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as children:
                for child in map(int, children.read().split()):
                    found += (child, *_below(child))
    return found


def _kill(heads: dict[int, int]) -> None:
    for pid, process in heads.items():
        below = _below(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        for child in below:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        os.close(process)
    heads.clear()


def _run(heads: dict[int, int], wanted: set[int]) -> None:
    for pid in heads.keys() - wanted:
        os.close(heads.pop(pid))
    for pid in wanted - heads.keys():
        with contextlib.suppress(ProcessLookupError, OSError):
            heads[pid] = os.pidfd_open(pid)


def main() -> None:
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # the machine may be busy with browsers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    heads: dict[int, int] = {}
    until, rest = float("inf"), b""
    while True:
        left = until - time.clock_gettime(_CLOCK)
        ready, _, _ = select.select([0], [], [], min(_LOOK_EVERY, left) if left > 0 else _LOOK_EVERY)
        if ready:
            data = os.read(0, 65_536)
            if not data:
                _kill(heads)
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                what, _, values = line.partition(b" ")
                if what == b"until":
                    until = float(values)
                elif what == b"runs":
                    _run(heads, {int(value) for value in values.split()})
        if time.clock_gettime(_CLOCK) >= until:
            _kill(heads)


if __name__ == "__main__":
    main()
