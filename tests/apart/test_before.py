"""What this version leaves in a store, the version before reads: its own programs are run on it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.apart.test_hosts import BEFORE
from tests.e2e.deployment import SECRETS
from tests.test_store_keys import seen

__all__ = ["seen"]

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

_WORKER = """
import asyncio, sys
from sessions.registry import Registry, Worker
from sluice.store.client import Store

async def main():
    store = Store(sys.argv[1], timeout=5.0)
    try:
        registry = Registry(store, 60.0)
        for worker in (one for one in await registry.workers() if not one.existing):
            await registry.register(Worker(worker.worker, "older", worker.url, worker.capacity))
            await registry.beat(worker.worker, "older", {}, {})
        print(len(await registry.workers()))
    finally:
        await store.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    with zipfile.ZipFile(BEFORE) as wheel:
        wheel.extractall(folder)
    return folder


def ran(before: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**os.environ, **SECRETS, "PYTHONPATH": str(before)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_its_workers_register_and_beat_where_newer_ones_did(seen: set[str], store_url: str, before: Path) -> None:
    assert "sl:{sessions}:dropped" in seen
    assert int(ran(before, "-c", _WORKER, store_url)) >= 1


async def test_its_commands_read_what_is_there(seen: set[str], store_url: str, before: Path, tmp_path: Path) -> None:
    assert seen
    policies = tmp_path / "policies.yaml"
    store = f"unix://{store_url.partition('://')[2]}"
    endpoints = "{laravel: {url: 'http://127.0.0.1:1'}, warehouse: {url: 'http://127.0.0.1:1'}}"
    policies.write_text(f"version: 1\nstore: {{url: '{store}'}}\nrelay: {{endpoints: {endpoints}}}\n")
    for command in ("sessions list", "alerts list", "dead list", "circuit list", "history"):
        ran(before, "-m", "sluice", *command.split(), "--json", "--policies", str(policies))
