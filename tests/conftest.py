"""The real parts that tests stand on: a real store, emptied for each test, and ports nobody else uses."""

from __future__ import annotations

import logging
import runpy
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis
from redis.exceptions import RedisError

from sluice.observe import log as logs
from sluice.store import embedded
from sluice.store.client import Store
from tests.heard import Heard
from tests.ports import free_ports
from tests.resolving import Resolve, resolving

ROOT = Path(__file__).parent.parent
settings.register_profile("beside others", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside others")  # tests run several at a time: how long an example takes says nothing of it
HOT_PATH = runpy.run_path(str(ROOT / "scripts" / "hot_path.py"))


def pytest_sessionstart() -> None:
    """What is compiled is imported instead of what was edited since."""
    if HOT_PATH["is_stale"]():
        pytest.exit("files of the hot path were edited after they were compiled: run scripts/install", 2)


def pytest_report_header() -> str:
    return f"hot path: {'compiled' if any(HOT_PATH['compiled_files']()) else 'plain Python'}"


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


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1 in one file."""
    assert shutil.which("openssl"), "install openssl: apt-get install openssl"
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=upstream"
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", *options.split(), *names, "-keyout", str(path), "-out", str(path) + ".crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(str(path) + ".crt").read_bytes())
    return path


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Says where names lead."""
    return resolving(monkeypatch)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command or an application that runs in the process of a test says where log lines go: only for that test."""
    root = logging.getLogger()
    handlers, level, out, files = list(root.handlers), root.level, logs._out, list(logs._files)
    yield
    logs._out.flush()
    logs._out, logs._files[:] = out, files
    root.handlers = handlers
    root.setLevel(level)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """The log lines of this test."""
    heard = Heard()
    monkeypatch.setattr(logs, "_out", heard)
    return heard


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """Ports that nobody else gets until the test has ended."""
    with free_ports() as find:
        yield find
