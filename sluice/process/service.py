"""What systemd is told of a process that it runs as `Type=notify` (sd_notify(3)); elsewhere nothing is told.

Under `sluice up` only that one tells, and not its children: it is the process that systemd has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from sluice.process.loops import Stop

_PINGS = 3
"""Within the time after which a process without one counts as hung."""
_READY_WITHIN = 1.0
"""Seconds; a ping that cannot be sent at once is left out, as the event loop is not to wait for systemd."""


def ready() -> None:
    """It does its work from now on."""
    _tell("READY=1", _READY_WITHIN)


async def tell(stop: Stop) -> None:
    """Until cancelled: that the event loop goes round, as often as `WatchdogSec=` wants it, and once that it stops."""
    stopping = asyncio.create_task(stop.wait())
    try:
        while not (await asyncio.wait((stopping,), timeout=_every()))[0]:
            _tell("WATCHDOG=1")
        _tell("STOPPING=1")
        while True:  # what is in flight is finished, which may take longer
            await asyncio.sleep(_every() or 3600.0)
            _tell("WATCHDOG=1")
    finally:
        stopping.cancel()


def _every() -> float | None:
    """Seconds from one ping to the next; None: nobody waits for them, or for those of another process."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return max(int(usec) / 1e6 / _PINGS, 0.05)


def _tell(state: str, within: float = 0.0) -> None:
    """`within`: seconds. What cannot be told is not: systemd then does what its unit says."""
    at = os.environ.get("NOTIFY_SOCKET", "")
    if not at.startswith(("/", "@")) or os.environ.get("SLUICE_SUPERVISED"):
        return
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.settimeout(within)
        out.connect(at if at[0] == "/" else "\0" + at[1:])
        out.send(state.encode())
