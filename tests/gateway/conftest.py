"""A gateway in front of one receiver that plays Laravel, on the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from relay.process import open_queue
from relay.queue.queue import Queue
from sluice.http.senders import SENDERS
from sluice.store.client import Store
from tests.gateway import running
from tests.gateway.running import Gate, Receiver, receiver, start
from tests.gateway.servers import SERVERS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`every_server`: the tests of a module run on our own server, uvicorn and hypercorn, but for those that are marked
    `our_server`, with the reason.
    """
    every = metafunc.definition.get_closest_marker("every_server")
    if every is not None and metafunc.definition.get_closest_marker("our_server") is None:
        others = [name for name in SERVERS if name not in ("sluice", every.kwargs.get("without"))]
        params = ["sluice", *(pytest.param(name, marks=pytest.mark.slow) for name in others)]
        metafunc.parametrize("server", params, indirect=True)


@pytest.fixture(autouse=True)
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The server that the gateways of a test run on."""
    name: str = getattr(request, "param", "sluice")
    monkeypatch.setattr(running, "server", name)
    return name


@pytest.fixture
async def laravel() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@pytest.fixture(scope="module")
async def stopping() -> AsyncIterator[list[asyncio.Future[None]]]:
    """Stopping takes a gateway 0.2 s: those of a module do it side by side, behind the tests."""
    tasks: list[asyncio.Future[None]] = []
    yield tasks
    await asyncio.gather(*tasks)


@pytest.fixture
async def gate(
    tmp_path: Path, store_url: str, laravel: Receiver, stopping: list[asyncio.Future[None]]
) -> AsyncIterator[Gate]:
    gate, task = start(tmp_path, store_url, laravel.url)
    stopping.append(task)
    async with gate.http:
        yield gate
    gate.stop.request()


@pytest.fixture
def queue(store: Store, gate: Gate) -> Queue:
    return open_queue(store, gate.policies.relay.endpoints["laravel"], gate.policies)


@pytest.fixture
def hold_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Holds the webhooks of existing workers for so many seconds instead of twelve."""
    return lambda seconds: monkeypatch.setitem(SENDERS, "blazz", replace(SENDERS["blazz"], hold=seconds))
