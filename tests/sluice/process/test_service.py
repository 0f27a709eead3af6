from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sluice.process import service
from sluice.process.loops import Stop

pytestmark = pytest.mark.anyio


class Manager:
    """What systemd is for a service: the socket that it is told at."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Since the last time."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    async def next(self) -> str:
        async with asyncio.timeout(30):
            return (await asyncio.get_running_loop().sock_recv(self._socket, 4096)).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a file", "an abstract name"])
def manager(request: pytest.FixtureRequest, short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    file = short_folder / "notify"
    address = str(file) if request.param == "a file" else f"@{file}"
    manager = Manager(address)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID", "SLUICE_SUPERVISED"):
        monkeypatch.delenv(name, raising=False)
    yield manager
    manager.close()


def test_systemd_is_told_that_it_is_ready(manager: Manager) -> None:
    service.ready()
    assert manager.heard() == ["READY=1"]


async def test_it_is_pinged_until_the_process_has_stopped(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    stop = Stop()
    telling = asyncio.create_task(service.tell(stop))
    assert await manager.next() == "WATCHDOG=1"
    stop.request()
    while (said := await manager.next()) != "STOPPING=1":
        assert said == "WATCHDOG=1"
    assert await manager.next() == "WATCHDOG=1", "what is in flight is being finished"
    telling.cancel()


async def test_an_event_loop_that_does_not_go_round_pings_nobody(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    telling = asyncio.create_task(service.tell(Stop()))
    await manager.next()
    manager.heard()
    time.sleep(1.0)  # blocks the loop, which is what the watchdog is for
    assert manager.heard() == []
    telling.cancel()


@pytest.mark.parametrize("environment", [{}, {"WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}])
async def test_nobody_is_pinged_who_does_not_wait_for_it(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stop = Stop()
    telling = asyncio.create_task(service.tell(stop))
    await asyncio.sleep(0.5)
    assert manager.heard() == []
    stop.request()
    assert await manager.next() == "STOPPING=1"
    telling.cancel()


def test_a_child_of_sluice_up_tells_nothing(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_SUPERVISED", "1")
    service.ready()
    assert manager.heard() == []


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative", "/nowhere/at/all", "/" + "long" * 100])
def test_a_manager_that_is_not_there_is_no_reason_to_end(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service.ready()


async def test_a_manager_that_reads_nothing_holds_nothing_up(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    telling = asyncio.create_task(service.tell(Stop()))
    longest = 0.0
    for _ in range(30):
        began = time.process_time(), time.monotonic()
        await asyncio.sleep(0.05)
        longest = max(longest, time.monotonic() - began[1])
    telling.cancel()
    assert len(manager.heard()) > 5
    assert longest < 0.9
