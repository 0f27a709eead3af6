"""A gateway in front of one receiver that plays Laravel, on the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.process import open_queue
from relay.queue.queue import Queue
from sluice.store.client import Store
from tests.gateway.running import Gate, Receiver, receiver, start


@pytest.fixture
async def laravel() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture(scope="module")
async def stopping() -> AsyncIterator[list[asyncio.Task[None]]]:
    """Stopping takes a gateway 0.2 s: those of a module do it side by side, behind the tests."""
    tasks: list[asyncio.Task[None]] = []
    yield tasks
    await asyncio.gather(*tasks)


@pytest.fixture
async def gate(
    tmp_path: Path, store_url: str, laravel: Receiver, stopping: list[asyncio.Task[None]]
) -> AsyncIterator[Gate]:
    gate, task = start(tmp_path, store_url, laravel.url)
    stopping.append(task)
    async with gate.http:
        yield gate
    gate.stop.request()


@pytest.fixture
def queue(store: Store, gate: Gate) -> Queue:
    return open_queue(store, gate.policies.relay.endpoints["laravel"], gate.policies)
