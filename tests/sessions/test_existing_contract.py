"""The watch over workers that are as the contract has them, in processes of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessions.existing import ExistingWorkers, WatchedWorker
from sessions.policies import ExistingWorker
from sessions.registry import Owner, Registry
from sluice.config import Secret
from sluice.store.client import Store
from tests.contract.running import ContractWorker, laravel, log_in, worker
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEY = Secret(b"k")
RESTORE = 600.0


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store, 60.0)


@asynccontextmanager
async def watching(registry: Registry, *workers: ExistingWorker) -> AsyncIterator[ExistingWorkers]:
    existing = ExistingWorkers(registry, workers, capacity=25)
    try:
        yield existing
    finally:
        await existing.close()


async def look(existing: ExistingWorkers) -> WatchedWorker:
    await existing.run_once()
    (seen,) = existing.seen
    return seen


@pytest.mark.parametrize(
    ("has", "given", "why"),
    [
        ("k", KEY, None),
        (None, None, None),
        ("k", None, "GET /api/sessions answered 401"),
        ("k", Secret(b"other"), "GET /api/sessions answered 401"),
        (None, KEY, "GET /api/sessions answered 401"),
    ],
)
async def test_a_key_is_given_to_those_that_have_one_and_to_nobody_else(
    registry: Registry, tmp_path: Path, free_port: Callable[[], int], has: str | None, given: Secret | None, why: str
) -> None:
    options = ("--api-key", has) if has else ()
    async with (
        worker(free_port(), "http://127.0.0.1:1", tmp_path, None, *options) as one,
        watching(registry, ExistingWorker(one.url, given)) as existing,
    ):
        seen = await look(existing)
    assert (seen.why, seen.refused) == (why, why is not None)
    if why is None:
        assert seen.began is not None


async def test_a_restarted_worker_keeps_its_sessions_while_it_restores_them_one_by_one(
    registry: Registry, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port, instance = free_port(), free_port()
    sessions = [f"s{i}" for i in range(4)]
    for i, session in enumerate(sessions):
        log_in(tmp_path / f"profiles-{instance}", session, 1, f"62810{i}")
    async with (
        laravel(port, [f"http://127.0.0.1:{instance}"], tmp_path) as app,
        watching(registry, ExistingWorker(f"http://127.0.0.1:{instance}", name="w1")) as existing,
    ):
        for session in sessions:
            await app.add(session, 1, status="connected")
        async with worker(instance, app.url, tmp_path, None, scale=0.05) as one:
            await until(lambda: _restored(one), timeout=60)
            assert (await look(existing)).missing == 0
            fences = {session: await _fence(registry, session) for session in sessions}
            await one.kill()
            assert (await look(existing)).why is not None
            await one.start()
            seen = await look(existing)
            assert 0 < seen.missing <= len(sessions)
            assert seen.restoring_left(seen.since, RESTORE) > RESTORE - 60
            assert {session: await _fence(registry, session) for session in sessions} == fences
            await until(lambda: _restored(one), timeout=60)
            seen = await look(existing)
            assert (seen.missing, seen.restoring_left(seen.since, RESTORE)) == (0, 0.0)
            assert {session: await _fence(registry, session) for session in sessions} == fences


async def test_two_processes_on_one_port_are_told_from_one_that_restarts(
    registry: Registry, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """As PM2's cluster mode has them: the system spreads the connections."""
    port = free_port()
    async with (
        worker(port, "http://127.0.0.1:1", tmp_path, None, "--shared") as one,
        watching(registry, ExistingWorker(one.url)) as existing,
    ):
        await look(existing)
        await one.kill()
        await look(existing)
        await one.start()
        for _ in range(3):
            assert not (await look(existing)).several
        async with worker(port, "http://127.0.0.1:1", tmp_path, None, "--shared"):

            async def noticed() -> bool:
                return (await look(existing)).several

            await until(noticed, timeout=30)


async def _restored(one: ContractWorker) -> bool:
    return not (await one.state())["restoring"]


async def _fence(registry: Registry, session: str) -> int:
    found = await registry.owner_of(session)
    assert isinstance(found, Owner), found
    assert found.worker == "w1"
    return found.fence
