"""Workers whose RemoteAuth keeps its logins in the vault by examples/node-remoteauth, and random ends of them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.browser.running import BY_REMOTE_AUTH, PHONE, Client, Said, client, flushed
from tests.e2e.node_worker import installed
from tests.gateway.running import POLICIES, SECRET

STORE = Path(__file__).parents[3] / "examples" / "node-remoteauth" / "index.js"
WITH_VAULT = POLICIES.replace(
    "sessions: {{lease: 15s, verify: workers}}",
    "sessions: {{lease: 15s, verify: workers, vault: {{key: env:VAULT_KEY}}}}",
)
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sluice-tests"
_EARLY = 0.3
"""How many of the workers are killed at any moment of their start; the others while they save."""
_SECONDS = 6.0


def store(url: str, data: Path, **options: Any) -> tuple[str, str, dict[str, Any]]:
    """Of a worker whose RemoteAuth has this dataPath."""
    return str(STORE), "SluiceStore", {"url": url, "secret": SECRET, "dataPath": str(data), "pause": 50, **options}


def worker(url: str, data: Path, session: str = "s1", **options: Any) -> AbstractAsyncContextManager[Client]:
    return client(data, "RemoteAuth", store=store(url, data, **options), clientId=session)


async def log_in(worker: Client, profile: Path) -> None:
    """With all that a login consists of, on the disk."""
    await worker.event("ready")
    await worker.login("fill", PHONE)
    await flushed(profile)


async def is_logged_in(worker: Client) -> bool:
    """Without a code, and with everything that RemoteAuth keeps."""
    await worker.event("ready")
    found = await worker.login("found")
    assert found == BY_REMOTE_AUTH, found
    return not worker.had("qr")


@asynccontextmanager
async def strategy(version: str, url: str, data: Path, folder: Path) -> AsyncIterator[Said]:
    """RemoteAuth of another version, without its client. `folder`: in which its process runs."""
    auth = {"clientId": "s1", "dataPath": str(data), "backupSyncIntervalMs": 60_000}
    process = await asyncio.create_subprocess_exec(
        *("node", str(Path(__file__).parent / "strategy.js")),
        cwd=folder,
        env={
            **os.environ,
            "NODE_PATH": str(await asyncio.to_thread(_installed, version)),
            "AUTH": orjson.dumps(auth).decode(),
            "STORE": orjson.dumps(store(url, data)).decode(),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    said = Said(process)
    try:
        await said.event("started")
        yield said
    except BaseException:
        await said.kill()
        raise
    await said.close()


async def unzipped(zipped: Path, sizes: Mapping[str, int], *, times: int, folder: Path) -> int:
    """How many times of `times` each file was whole when RemoteAuth had unzipped it."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(Path(__file__).parent / "unzip.js"), str(zipped), str(times), str(folder)),
        env={**os.environ, "NODE_PATH": str(await installed() / "node_modules"), "SIZES": orjson.dumps(sizes).decode()},
        stdout=subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        said, _ = await process.communicate()
    return int(said)


def _installed(version: str) -> Path:
    """node_modules with this whatsapp-web.js, from npm, once for all test runs."""
    folder = _CACHE / f"whatsapp-web.js-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            options = ("--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--ignore-scripts", "--silent")
            command = ["npm", "install", *options, f"whatsapp-web.js@{version}"]
            subprocess.run(command, cwd=folder, check=True, timeout=300)
            (folder / "complete").touch()
    return folder / "node_modules"


@dataclass
class Kills:
    early: int = 0
    """Workers that were killed before they were ready."""
    saving: int = 0
    restored: int = 0
    """Starts on an empty disk that were logged in, with everything."""
    saves: int = 0
    refused: list[str] = field(default_factory=list)
    """Saves that failed while the worker lived: of RemoteAuth itself, and of the store."""


async def killed(url: str, folder: Path, kills: int, seed: int) -> Kills:
    """SIGKILL of workers and their browsers at random moments, each on a disk of its own that is lost with it. Fails at
    the first start that is not logged in with everything, and where the last one, which is left alone, cannot save."""
    chance, kept = random.Random(seed), Kills()
    async with _machine(folder) as data, worker(url, data) as first:
        await log_in(first, data / "RemoteAuth-s1")
        await first.ask("save")
        assert not first.had("problem"), first.events
    for number in range(kills):
        early = chance.random() < _EARLY
        async with _machine(folder) as data, worker(url, data) as started:
            if early:
                await asyncio.sleep(chance.uniform(0, _SECONDS))
                kept.early += 1
            else:
                assert await is_logged_in(started), f"kill {number} of seed {seed}: it shows a code"
                kept.restored += 1
                await _save_until_killed(started, chance.uniform(0, _SECONDS), kept)
            await started.kill()
    async with _machine(folder) as data, worker(url, data) as last:
        assert await is_logged_in(last), f"after {kills} kills of seed {seed}: it shows a code"
        kept.restored += 1
        await last.ask("save")
        assert not last.had("problem"), last.events
        kept.saves += 1
    return kept


async def _save_until_killed(started: Client, seconds: float, kept: Kills) -> None:
    """While its page writes."""
    await started.login("keepWriting")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                before = len(started.events)
                try:
                    await started.ask("save")
                    kept.saves += 1
                except AssertionError as error:
                    kept.refused.append(str(error))
                kept.refused.extend(
                    f"{one['reason']}: {one['detail']}" for one in started.events[before:] if one["event"] == "problem"
                )
    kept.saving += 1


@asynccontextmanager
async def _machine(folder: Path) -> AsyncIterator[Path]:
    """A disk that was never seen before, and is lost."""
    lost = Path(tempfile.mkdtemp(dir=folder))
    yield lost / "data"
    await asyncio.to_thread(shutil.rmtree, lost, ignore_errors=True)  # browsers of a killed worker end meanwhile
