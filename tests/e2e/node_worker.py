"""The Node worker of examples/node-worker in processes of its own, with the packages that its lockfile names."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson

EXAMPLE = Path(__file__).parents[2] / "examples" / "node-worker"
PAGE = Path(__file__).parent / "whatsapp_web"
_INSTALLED_WITHIN = 300.0


async def installed() -> Path:
    """A folder with the example and its packages, which are fetched once for each lockfile."""
    npm = shutil.which("npm")
    assert npm, "install Node.js 20 and npm: the example of a worker in Node is run"
    digest = hashlib.sha256((EXAMPLE / "package-lock.json").read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"sluice-node-worker-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        for name in ("package.json", "package-lock.json", "worker.js"):
            shutil.copy(EXAMPLE / name, folder / name)
        if not (folder / ".complete").exists():
            await _ci(npm, folder)
            (folder / ".complete").touch()
    return folder


async def _ci(npm: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_INSTALLED_WITHIN):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


class NodeWorker:
    """One process; its browsers end with it."""

    def __init__(self, process: asyncio.subprocess.Process, output: Path) -> None:
        self.process = process
        self._output = output

    def said(self) -> str:
        return self._output.read_text()

    def terminate(self) -> None:
        self.process.terminate()

    async def kill(self) -> None:
        """`kill -9` of the worker alone; its browsers see their pipes close."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def node_worker(
    name: str, port: int, gateway: str, secret: str, folder: Path, profiles: Path
) -> AsyncIterator[NodeWorker]:
    """`folder`: as `installed` answers it. Its browsers show the page that stands in for WhatsApp Web."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "install a Chromium: the example of a worker opens real browsers"
    output = profiles / f"{name}.txt"
    environment = {
        "GATEWAY": gateway,
        "ID": name,
        "PORT": str(port),
        "SECRET": secret,
        "CLIENT": orjson.dumps(
            {
                "puppeteer": {"pipe": True, "executablePath": browser, "args": ["--no-sandbox"]},
                "webVersion": "page",
                "webVersionCache": {"type": "local", "path": str(PAGE), "strict": True},
            }
        ).decode(),
    }
    with output.open("ab") as said:
        process = await asyncio.create_subprocess_exec(
            *("node", str(folder / "worker.js")),
            cwd=profiles,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    worker = NodeWorker(process, output)
    try:
        yield worker
    finally:
        await worker.kill()
