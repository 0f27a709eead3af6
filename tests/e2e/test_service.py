"""Each kind of process as systemd runs it, `Type=notify` with a watchdog: what it tells, and who of it does."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment, deployment

pytestmark = pytest.mark.anyio
_WITHIN = 120.0


class Manager:
    """What systemd is for one service."""

    def __init__(self, address: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.settimeout(_WITHIN)
        self._socket.bind(str(address))
        self.environment = {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "600000"}

    async def hears(self, process: asyncio.subprocess.Process, state: str) -> None:
        """Until it does; all that is told is of that process, and pings come before anything else."""
        while True:
            said, ancillary, *_ = await asyncio.to_thread(self._socket.recvmsg, 4096, socket.CMSG_SPACE(12))
            ((_, _, credentials),) = ancillary
            assert struct.unpack("3i", credentials)[0] == process.pid, f"a child of it says {said!r}"
            if said.decode() == state:
                return
            assert said == b"WATCHDOG=1"

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def service(sluice: Deployment, folder: Path, *command: str) -> AsyncIterator[None]:
    """Runs and is alive within the block, and has stopped after it."""
    address = folder / "-".join(command)
    with closing(Manager(address)) as manager:
        sluice.environment = manager.environment
        process = await sluice.sluice(*command)
        sluice.environment = {}
        await manager.hears(process, "READY=1")
        await manager.hears(process, "WATCHDOG=1")
        yield
        await manager.hears(process, "WATCHDOG=1")
        process.send_signal(signal.SIGTERM)
        await manager.hears(process, "STOPPING=1")
        async with asyncio.timeout(_WITHIN):
            assert await process.wait() == 0, sluice.said()


async def test_each_process_tells_that_it_is_ready_alive_and_stopping(
    short_folder: Path, free_port: Callable[[], int]
) -> None:
    async with deployment(short_folder, (free_port(), free_port())) as sluice, service(sluice, short_folder, "up"):
        async with service(sluice, short_folder, "relay"):
            pass
        async with service(sluice, short_folder, "worker", "--driver", "demo", "--name", "w1"):
            pass
        sluice.file.write_text(sluice.file.read_text().replace(sluice.gateway[-5:], str(free_port()), 1))
        async with service(sluice, short_folder, "gateway"):
            pass
        async with service(sluice, short_folder, "gateway", "--processes", "2"):
            pass
