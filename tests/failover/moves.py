"""How long a session that is given up properly is nobody's: its worker gets SIGTERM, and another one has it.

released ─▶ granted ─▶ opened ─▶ connected
    │          │          └ the first process of the new worker's browser was started, on the restored profile
    │          └ the registry has given it to the other worker
    └ the registry has heard that it was stopped: its browser is closed, its login saved
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sessions.changes import Change, Changes, Everything
from sessions.profiles.in_use import use_of
from sluice.process.boottime import boottime
from sluice.process.loops import Stop
from sluice.store.client import Store
from tests.failover.deployment import WITHIN, Deployment, deployment
from tests.started import started

_READY = 10.0
"""Seconds after its start in which a worker has started what drives its browsers."""


@dataclass(frozen=True, slots=True)
class Move:
    """Seconds."""

    stopping: float
    """From SIGTERM until it was released."""
    granted: float
    """From there on, as all others."""
    opened: float
    connected: float


async def moved(made: Deployment, session: str) -> Move:
    """Its worker has ended afterwards; another one runs it, which has a disk of its own."""
    owner, _, _ = await made.owner(session)
    assert owner is not None
    (other,) = (name for name, worker in made.workers.items() if worker.alive and name != owner)
    heard: list[tuple[float, Change]] = []
    store, stop = Store(made.store.url, timeout=5.0), Stop()
    changes = Changes(store)

    def note(what: Change | Everything) -> None:
        if isinstance(what, Change) and what.session == session:
            heard.append((boottime(), what))

    changes.subscribe(note)
    listening = asyncio.create_task(changes.run(stop))
    try:
        began, signalled = time.monotonic(), boottime()
        stopping = asyncio.create_task(made.workers[owner].terminate(within=WITHIN))
        await made.runs(session, other, since=began)
        await stopping
    finally:
        stop.request()
        await listening
        await store.close()
    released = next(at for at, change in heard if not change.worker)
    granted = next(at for at, change in heard if change.worker == other)
    opened = started(use_of(made.profile(session, other)).pid)
    connected = (made.whatsapp.connected_since(made.phones[session]) or 0.0) + boottime() - time.monotonic()
    return Move(released - signalled, granted - released, opened - released, connected - released)


async def moves(folder: Path, free_port: Callable[[], int], *, count: int) -> list[Move]:
    """Of one session between two workers, each with its own disk; after each the one that ended starts again."""
    async with deployment(folder, free_port) as made:
        await made.paired("s1", "628111")
        found: list[Move] = []
        for _ in range(count):
            found.append(await moved(made, "s1"))
            print(found[-1], flush=True)
            for name, worker in made.workers.items():
                if not worker.alive:
                    await made.start_worker(name)
            await asyncio.sleep(_READY)
        assert made.whatsapp.overlaps() == []
        assert made.heard("s1", "session_disconnected") == []
        return found
