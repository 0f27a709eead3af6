"""The vault of a gateway that is a process of its own: how much memory it takes, and what a kill leaves."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import random
import signal
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from sessions.profiles import transfers, zips
from sessions.profiles.calls import DIGEST, PREFIX
from tests.gateway.running import POLICIES, SECRET
from tests.sessions.profiles.calling import VaultClient, zipped
from tests.sessions.profiles.making import LEVELDB, profile
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
MIB = 2**20
_RESET_PEAK = "5"
"""proc(5), clear_refs."""


@dataclass
class Process:
    client: VaultClient
    process: asyncio.subprocess.Process
    data: Path

    def peak(self) -> int:
        """Bytes that it has had in memory at once, since the last `forget_peak`."""
        return self._status("VmHWM")

    def now(self) -> int:
        return self._status("VmRSS")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text(_RESET_PEAK)

    def _status(self, name: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@asynccontextmanager
async def gateway(folder: Path, store_url: str, port: int) -> AsyncIterator[Process]:
    vault = "sessions: {{lease: 15s, verify: workers, vault: {{key: env:VAULT_KEY}}}}"
    text = POLICIES.replace("sessions: {{lease: 15s, verify: workers}}", vault)
    file = folder / "policies.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{port}\n" + text.format(store=store_url, laravel="http://127.0.0.1:9", headers="10s")
    )
    environment = {**os.environ, "SECRET": SECRET, "SECRET_KEY": "k", "VAULT_KEY": "k" * 32}
    command = [sys.executable, "-P", "-m", "sluice", "gateway", "--policies", str(file)]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120.0) as http:

            async def answers() -> bool:
                with contextlib.suppress(httpx2.TransportError):
                    return (await http.get("/_sluice/healthz")).status_code == 200
                return False

            await until(answers, timeout=30, what="the gateway")
            yield Process(VaultClient(http), process, folder / ".sluice")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


def files_of(zipped: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != zips.LAST}


async def fetched(client: VaultClient) -> tuple[int, str, str]:
    """Status, the digest that was told and that of what came, of which nothing is kept."""
    hashed = hashlib.sha256()
    async with client.http.stream("GET", f"{PREFIX}/s1", headers=client.signed("GET", "s1")) as answer:
        async for piece in answer.aiter_bytes():
            hashed.update(piece)
        return answer.status_code, answer.headers[DIGEST], hashed.hexdigest()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a process")
async def test_a_transfer_takes_no_more_memory_than_it_may(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    source = profile(tmp_path / "source")
    for number in range(12):  # 300 MiB take no more
        (source / LEVELDB / f"{100 + number:06}.ldb").write_bytes(random.Random(number).randbytes(4 * MIB))
    zipped(source, tmp_path / "a.zip")
    zipped(profile(tmp_path / "small", size=10, seed=2), tmp_path / "small.zip")
    async with gateway(tmp_path, store_url, free_port()) as process:
        client = process.client
        fence = (await client.start())["fence"]
        await client.put_file(tmp_path / "small.zip", fence)  # whatever is loaded at first
        await fetched(client)
        process.forget_peak()
        before = process.now()
        assert (await client.put_file(tmp_path / "a.zip", fence)).status_code == 201
        saving = process.peak() - before
        process.forget_peak()
        before = process.now()
        status, told, came = await fetched(client)
        fetching = process.peak() - before
        assert (status, told) == (200, came)
        assert saving < 32 * MIB
        assert fetching < 32 * MIB


async def test_a_process_that_is_killed_within_a_save_leaves_the_generation_before(
    tmp_path: Path, store_url: str, free_port: Callable[[], int]
) -> None:
    first = zipped(profile(tmp_path / "first", size=100_000), tmp_path / "1.zip")
    zipped(profile(tmp_path / "second", size=20 * MIB, seed=2), tmp_path / "2.zip")
    port = free_port()
    async with gateway(tmp_path, store_url, port) as process:
        fence = (await process.client.start())["fence"]
        assert (await process.client.put(first, fence)).status_code == 201
    base = tmp_path / ".sluice" / transfers.FOLDER
    for wait in (0.05, 0.3, 0.6):
        async with gateway(tmp_path, store_url, port) as process:
            saving = asyncio.create_task(process.client.put_file(tmp_path / "2.zip", fence))
            await asyncio.sleep(wait)
            process.process.kill()
            with contextlib.suppress(httpx2.TransportError):
                await saving
            await process.process.wait()
    async with gateway(tmp_path, store_url, port) as process:
        assert not base.exists() or list(base.iterdir()) == [], "what the killed ones left is swept"
        answer = await process.client.call("GET")
        assert answer.status_code == 200
        whole = (tmp_path / "2.zip").read_bytes() if len(answer.content) > MIB else first
        assert files_of(answer.content) == files_of(whole)
        assert (await process.client.put_file(tmp_path / "2.zip", fence)).status_code == 201
        assert (await process.client.start())["skipped"] == []
