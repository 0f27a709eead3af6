"""The real parts that tests stand on: a real store, emptied for each test, and ports nobody else uses."""

from __future__ import annotations

import runpy
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from sluice.observe import log as logs
from sluice.store import embedded
from sluice.store.client import Store
from tests.heard import Heard

ROOT = Path(__file__).parent.parent
COMPILED = runpy.run_path(str(ROOT / "setup.py"), run_name="tests")["COMPILED"]


def pytest_sessionstart() -> None:
    """What is compiled is imported instead of what was edited since."""
    for built in ROOT.glob("sluice__mypyc.*"):
        for name in COMPILED:
            if built.stat().st_mtime < (ROOT / name).stat().st_mtime:
                pytest.exit(f"{name} was edited after it was compiled: run scripts/install", 2)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a unix socket."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def store_address() -> Iterator[str]:
    """A real store for the whole test run."""
    folder = Path(tempfile.mkdtemp(prefix="sluice-", dir="/tmp"))
    embedded.make_folders(folder)
    process = subprocess.Popen(embedded.command(folder, "second"), stdout=subprocess.DEVNULL)
    address = embedded.url(folder)
    with Redis.from_url(address) as client:
        deadline = time.monotonic() + 10
        while True:
            try:
                client.ping()
                break
            except (RedisError, OSError):
                assert time.monotonic() < deadline, "the store did not start"
                time.sleep(0.01)
    yield address
    process.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)  # what rewrites its append-only file may outlive it for a moment


@pytest.fixture
def store_url(store_address: str) -> str:
    """The test store's address, empty."""
    with Redis.from_url(store_address) as client:
        client.flushall()
    return store_address


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    client = Store(store_url, timeout=5.0)
    yield client
    await client.close()


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """The log lines of this test."""
    heard = Heard()
    monkeypatch.setattr(logs, "_out", heard)
    return heard


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports that were free a moment ago, a different one at each call."""
    taken: set[int] = set()

    def find() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in taken:
                taken.add(port)
                return port

    return find
