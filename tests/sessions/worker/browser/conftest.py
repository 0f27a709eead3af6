"""One worker with browsers for each module: a test has a session of its own on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sluice.store.client import Store
from tests.sessions.worker.browser import running
from tests.sessions.worker.browser.running import Bench


@pytest.fixture(scope="module")
async def lasting(store_address: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """For sessions that several tests share."""
    store = Store(store_address, timeout=5.0)
    async with running.bench(tmp_path_factory.mktemp("worker"), store) as made:
        yield made
    await store.close()


@pytest.fixture
async def bench(lasting: Bench) -> AsyncIterator[Bench]:
    """The sessions that a test starts end with it."""
    before = {*lasting.fences}
    yield lasting
    await asyncio.gather(*(lasting.forget(session) for session in {*lasting.fences} - before))
