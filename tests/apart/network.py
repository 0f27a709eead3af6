"""Hosts on one machine: network namespaces with addresses of their own, on a bridge that can be told to drop.

Only within a network and a mount namespace of its own (`unshare --net --mount`): nothing of it is seen outside, and it
is gone with its last process.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

_NETWORK = "10.77.0"
_BRIDGE = "switch"
_FORWARDING, _DISABLED = "3", "0"  # the states of a bridge's port
_STOPS_WITHIN = 60.0


@dataclass(slots=True)
class Host:
    name: str
    address: str
    folder: Path
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def _output(self) -> Path:
        return self.folder / "output.txt"

    async def start(self, *command: str, environment: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
        with self._output.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *("nsenter", f"--net=/run/netns/{self.name}", *command),
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.processes.append(process)
        return process

    async def run(self, *command: str) -> str:
        """What it prints, as seen from this host."""
        process = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net=/run/netns/{self.name}", *command), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
        return out.decode()

    async def stop(self) -> None:
        """By SIGTERM, each process to its end."""
        for process in self.processes:
            if process.returncode is None:
                process.terminate()
        for process in self.processes:
            try:
                async with asyncio.timeout(_STOPS_WITHIN):
                    await process.wait()
            except TimeoutError:
                process.kill()
                raise AssertionError(f"a process on {self.name} does not stop:\n{self.said()}") from None
        self.processes.clear()

    def cut_off(self) -> None:
        """Whatever is sent to it or from it is lost, and nobody is told."""
        _ip("bridge", "link", "set", "dev", f"to-{self.name}", "state", _DISABLED)

    def bring_back(self) -> None:
        _ip("bridge", "link", "set", "dev", f"to-{self.name}", "state", _FORWARDING)

    def said(self) -> str:
        return self._output.read_text(errors="replace") if self._output.exists() else ""


@asynccontextmanager
async def network(folder: Path, names: Mapping[str, int]) -> AsyncIterator[dict[str, Host]]:
    """`names`: the hosts, each with the last part of its address. Whoever opens it has the address that ends in 254."""
    _ip("mount", "-t", "tmpfs", "tmpfs", "/run")
    _ip("ip", "link", "set", "lo", "up")
    _ip("ip", "link", "add", _BRIDGE, "type", "bridge")
    _ip("ip", "address", "add", f"{_NETWORK}.254/24", "dev", _BRIDGE)
    _ip("ip", "link", "set", _BRIDGE, "up")
    hosts = {name: _host(folder, name, f"{_NETWORK}.{number}") for name, number in names.items()}
    try:
        yield hosts
    finally:
        for host in hosts.values():
            host.bring_back()
        await asyncio.gather(*(host.stop() for host in hosts.values()))


def _host(folder: Path, name: str, address: str) -> Host:
    inside = ("ip", "-n", name)
    _ip("ip", "netns", "add", name)
    _ip("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("ip", "link", "set", f"to-{name}", "master", _BRIDGE, "up")
    _ip(*inside, "address", "add", f"{address}/24", "dev", "eth0")
    _ip(*inside, "link", "set", "eth0", "up")
    _ip(*inside, "link", "set", "lo", "up")
    (folder / name).mkdir()
    return Host(name, address, folder / name)


def _ip(*command: str) -> None:
    subprocess.run(command, check=True, timeout=30)
