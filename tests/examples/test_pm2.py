"""examples/pm2, run by npm's PM2 with a small worker in place of the service."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from tests.contract.running import laravel
from tests.gateway.running import POLICIES, Gate, gateway
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "pm2"
VERSION = "7.0.4"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sluice-tests" / f"pm2-{VERSION}"
WORKERS = 3


@pytest.fixture(scope="session")
def pm2() -> Path:
    """From npm, once for all test runs."""
    program = CACHE / "node_modules" / ".bin" / "pm2"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            options = ("--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--ignore-scripts", "--silent")
            subprocess.run(["npm", "install", *options, f"pm2@{VERSION}"], cwd=CACHE, check=True, timeout=300)
    return program


class Pm2:
    """With a home of its own, so that no other PM2 on this machine is touched."""

    def __init__(self, program: Path, home: Path, environment: dict[str, str]) -> None:
        self._program = program
        self._home = home
        self._environment = {**os.environ, "PM2_HOME": str(home), "PM2_DISCRETE_MODE": "true", **environment}

    async def run(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(str(self._program), *arguments),
            env=self._environment,
            cwd=EXAMPLE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(90):
            said, complained = await process.communicate()
        assert process.returncode == 0, complained.decode() + said.decode()
        return said.decode()

    async def close(self) -> None:
        """Ends what it has started, and itself."""
        pids = [int(file.read_text()) for file in self._home.rglob("*.pid")]
        await self.run("kill")
        await until(lambda: not any(map(_is_alive, pids)), timeout=60, what="all of its processes to end")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def first_port() -> Iterator[int]:
    """Of as many ports in a row as there are workers. Each is claimed as `free_port` claims them."""
    while True:
        first, claims = random.randrange(15_000, 31_000), [socket.socket(socket.AF_UNIX) for _ in range(WORKERS)]
        try:
            for number, claim in enumerate(claims):
                claim.bind(f"\0sluice-test-port-{first + number}")
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", first + number))
            break
        except OSError:
            for claim in claims:
                claim.close()
    yield first
    for claim in claims:
        claim.close()


@pytest.fixture
async def gate(tmp_path: Path, store_url: str, free_port: Callable[[], int], first_port: int) -> AsyncIterator[Gate]:
    """A gateway for the workers of the example, in front of a Laravel with ten accounts in ten workspaces."""
    named = "".join(
        f"    - {{{{name: w{i + 1}, url: 'http://127.0.0.1:{first_port + i}', prefix: /w/w{i + 1}}}}}\n"
        for i in range(WORKERS)
    )
    section = f"sessions:\n  lease: 3s\n  verify: workers\n  workers:\n{named}"
    policies = POLICIES.replace("sessions: {{lease: 15s, verify: workers}}", section)
    async with laravel(free_port(), ["http://127.0.0.1:1"], tmp_path) as app:
        for number in range(10):
            await app.add(f"s{number}", number, status="connected")
        async with gateway(tmp_path, store_url, app.url, text=policies) as opened:
            yield opened


async def test_each_worker_is_a_process_of_its_own_with_its_own_sessions(
    pm2: Path, gate: Gate, first_port: int, short_folder: Path
) -> None:
    service = short_folder / "service"
    service.mkdir()
    shutil.copy(Path(__file__).parent / "server.js", service)
    variables = {"WORKERS": str(WORKERS), "FIRST_PORT": str(first_port), "WORKER_FOLDER": str(service)}
    manager = Pm2(pm2, short_folder / "home", {**variables, "SLUICE_URL": gate.url})

    async def run_by(number: int) -> list[str]:
        try:
            answer = await gate.http.get(f"http://127.0.0.1:{first_port + number}/api/sessions")
        except httpx2.HTTPError:
            return []
        return [one["session_id"] for one in answer.json()["sessions"]]

    async def all_of_them() -> list[list[str]]:
        return [await run_by(number) for number in range(WORKERS)]

    divided = [["s0", "s3", "s6", "s9"], ["s1", "s4", "s7"], ["s2", "s5", "s8"]]

    async def are_divided() -> bool:
        return await all_of_them() == divided

    try:
        await manager.run("start", "ecosystem.config.js")
        await until(are_divided, timeout=60, what="each worker to run its own sessions")
        told = [(await gate.http.get(f"http://127.0.0.1:{first_port + n}/environment")).json() for n in range(WORKERS)]
        assert len({one["pid"] for one in told}) == WORKERS
        assert [one["laravel"] for one in told] == [f"{gate.url}/w/w{n + 1}" for n in range(WORKERS)]
        await manager.run("restart", "all")
        await until(are_divided, timeout=60, what="each worker to run the same sessions again")
    finally:
        await manager.close()
