"""Workers and sessions for tests of the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sessions.registry import ObservedSession, Owner, Registry, Report, Reserved, Worker


def worker(name: str, *, instance: str = "1", capacity: int = 10, url: str = "") -> Worker:
    return Worker(name, instance, url or f"http://{name}:3000", capacity)


async def register(registry: Registry, *names: str, capacity: int = 10) -> None:
    for name in names:
        await registry.register(worker(name, capacity=capacity))


async def beat(
    registry: Registry,
    name: str,
    held: Mapping[str, int] | None = None,
    *,
    instance: str = "1",
    state: str = "connected",
) -> dict[str, int]:
    """Reports what is `held`."""
    reports = {session: Report(fence, state) for session, fence in (held or {}).items()}
    return await registry.beat(name, instance, reports, {})


async def want(registry: Registry, *sessions: str) -> None:
    """Sessions that wait for a worker."""
    await registry.want({session: {} for session in sessions})


async def keep(registry: Registry) -> None:
    """What the keeper does, until there is nothing left to do."""
    while (await registry.lapse()).moved:
        pass
    while await registry.place_orphans():
        pass


async def run(registry: Registry, name: str, *sessions: str) -> dict[str, int]:
    """Has the worker, which must be the only one with room, run these."""
    await want(registry, *sessions)
    await keep(registry)
    held = await beat(registry, name)
    assert set(sessions) <= held.keys()
    return await beat(registry, name, held)


async def owner(registry: Registry, session: str) -> Owner:
    found = await registry.owner_of(session)
    assert isinstance(found, Owner), found
    return found


async def reserved(registry: Registry, session: str, about: Mapping[str, Any] | None = None) -> Reserved:
    found = await registry.reserve(session, about or {})
    assert isinstance(found, Reserved), found
    return found


async def place(registry: Registry, session: str, about: Mapping[str, Any] | None = None) -> Owner:
    """Has some worker own it, as if that had accepted its create."""
    found = await registry.reserve(session, about or {})
    if isinstance(found, Reserved):
        await registry.confirm(session, found.fence)
    return await owner(registry, session)


def listed(sessions: Iterable[str], state: str = "connected") -> dict[str, ObservedSession]:
    return {session: ObservedSession(state, "628") for session in sessions}


def named(count: int) -> list[str]:
    return [f"s{i:03}" for i in range(count)]
