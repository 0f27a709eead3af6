"""Lets a browser go on when whoever has paused it is gone, or takes too long: a program of its own, which outlives it.

    python pause_guard.py SECONDS

It writes a byte when it is ready; each line of its input is a process that is about to be paused. All of them go on
SECONDS after the first one, and when its input ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time


def main(most: float) -> None:
    processes: list[int] = []
    due: float | None = None
    os.write(1, b".")
    while True:
        ready, _, _ = select.select([0], [], [], None if due is None else max(0.0, due - time.monotonic()))
        data = os.read(0, 65_536) if ready else b""
        for line in data.split():
            with contextlib.suppress(ProcessLookupError):
                processes.append(os.pidfd_open(int(line)))
        if data:
            due = due or time.monotonic() + most
            continue
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGCONT)
        if ready:
            return
        due = time.monotonic() + most


if __name__ == "__main__":
    main(float(sys.argv[1]))
