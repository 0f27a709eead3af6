"""A server of the store and its replica, both real."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sluice.store.client import Store, StoreAway
from sluice.store.embedded import find_server
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class Pair:
    primary: subprocess.Popen[bytes]
    replica: subprocess.Popen[bytes]
    primary_url: str
    replica_url: str


@asynccontextmanager
async def store_pair(free_port: Callable[[], int]) -> AsyncIterator[Pair]:
    """The replica follows."""
    first, second = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="sluice-") as folder:
        primary = _start(first, Path(folder), "--repl-diskless-sync-delay", "0")
        replica = _start(second, Path(folder), "--replicaof", "127.0.0.1", str(first))
        pair = Pair(primary, replica, f"redis://127.0.0.1:{first}", f"redis://127.0.0.1:{second}")
        try:
            await _replicated(pair)
            yield pair
        finally:
            for process in (primary, replica):
                process.kill()
                process.wait()


def _start(port: int, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    known = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *more]
    return subprocess.Popen([find_server(), *known], stdout=subprocess.DEVNULL)


async def _replicated(pair: Pair) -> None:
    store = Store(pair.primary_url, timeout=2.0)

    async def it_is() -> bool:
        try:
            return bool((await store.commands(("SET", "x", "1"), ("WAIT", "1", "100")))[1])
        except StoreAway:
            return False

    try:
        await until(it_is)
    finally:
        await store.close()
