"""A worker that a person empties: what would become of its sessions, and each mistake with its message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.resources import Resources
from sessions.registry import Registry
from sluice.console.actions.deployment import Problem, ProblemKind
from sluice.console.actions.worker_draining import DrainedWorker, DrainWorker, drain
from tests.sessions.making import listed, register, run, worker

pytestmark = pytest.mark.anyio


@pytest.fixture
def parts(parts: Resources) -> Resources:
    """With a lease that lasts as long as a test."""
    return replace(parts, registry=Registry(parts.store, 60.0))


async def test_it_says_how_many_sessions_the_others_have_room_for_and_is_taken_back(parts: Resources) -> None:
    await register(parts.registry, "a")
    await run(parts.registry, "a", "s1", "s2", "s3")
    await parts.registry.register(worker("b", capacity=2))
    assert await drain(parts, DrainWorker("a", dry_run=True)) == DrainedWorker("a", False, False, 3, 2)
    assert await drain(parts, DrainWorker("a")) == DrainedWorker("a", True, True, 3, 2)
    assert await drain(parts, DrainWorker("a")) == DrainedWorker("a", False, True, 3, 2)
    (row,) = [one for one in await parts.registry.workers() if one.worker == "a"]
    assert row.drains is not None
    assert await drain(parts, DrainWorker("a", drain=False)) == DrainedWorker("a", True, False, 3, 2)
    (row,) = [one for one in await parts.registry.workers() if one.worker == "a"]
    assert row.drains is None


async def test_an_existing_worker_cannot_be_emptied(parts: Resources) -> None:
    await parts.registry.observe(worker("n1"), listed(["s1"]), await parts.registry.time())
    assert await drain(parts, DrainWorker("n1")) == Problem(
        ProblemKind.CONFLICT,
        "n1 is an existing service that knows nothing of Sluice, so nobody can empty it: close its sessions there, or "
        "move each of them (sluice sessions move SESSION --to WORKER)",
    )


async def test_who_is_not_there_is_told(parts: Resources) -> None:
    await register(parts.registry, "a")
    assert await drain(parts, DrainWorker("b\x1b")) == Problem(
        ProblemKind.NOT_FOUND, 'there is no worker "b\\u001b"; there are a'
    )
