"""Whatever workers say, whoever dies, and however the store's clock jumps: the cleaner ends nothing that is connected,
no more than it may, and what a dry run names.

Played are a worker of ours, which may die, a second one, and an existing worker; two processes clean, and either may be
killed in the middle. The clock of the store is stepped to and fro by up to three days.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from sessions.ending import Why
from sessions.lifecycle import same_phone
from sessions.lifecycle.cleaning import Cleaner, find
from sessions.lifecycle.cleanings import cleanings
from sessions.lifecycle.closing import Closing, Outcome
from sessions.lifecycle.election import Election
from sessions.lifecycle.policies import Cleanup
from sessions.registry import ObservedSession, Registry, Report, Reserved, UnknownWorker, Worker
from sluice.store.client import Store
from tests.sluice.store.store_servers import Server
from tests.stepping_clock import SteppingClock

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LEASE = 600.0
AT_ONCE = 2
POLICY = Cleanup(every=0.001, at_once=AT_ONCE, purge=30 * 86400.0)
OWN, EXISTING, PHONES = ("w1", "w2"), Worker("x", "observed", "http://x:1", 50), ("", "491", "492")
STATES = ("qr_scanning", "authenticated", "connected", "connected", "disconnected", "failed", "logged_out")
STEPS = ("say", "say", "say", "list", "list", "die", "lapse", "create", "clean", "clean", "phones", "restore")
JUMPS = (-7200.0, -60.0, 120.0, 2400.0, 90_000.0, 260_000.0)


class Killed(BaseException):
    """SIGKILL, as far as a process can feel it."""


class Closer(Closing):
    """What an existing worker closes goes from its list. Killed at the last of its `lives`."""

    def __init__(self, history: History, lives: int) -> None:
        super().__init__(history.registry, ())
        self._history = history
        self._lives = lives

    async def end(self, session: str, why: Why, **how: Any) -> Outcome:
        self._act()
        return await super().end(session, why, **how)

    async def _closed(self, name: str, session: str) -> bool:
        del self._history.existing[session]
        self._act()
        return True

    def _act(self) -> None:
        self._lives -= 1
        if self._lives == 0:
            raise Killed


@dataclass
class History:
    """`runs`: of each worker of ours that lives, its sessions with fence, state and phone; so of the existing one."""

    store: Store
    registry: Registry
    chance: random.Random
    runs: dict[str, dict[str, tuple[int, str, str]]] = field(default_factory=dict)
    existing: dict[str, tuple[str, str]] = field(default_factory=dict)
    instance: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OWN, 0))

    def connected(self) -> set[str]:
        """By what workers that live have told."""
        own = {name for held in self.runs.values() for name, (_, state, _) in held.items() if state == "connected"}
        return own | {name for name, (state, _) in self.existing.items() if state == "connected"}

    async def say(self) -> None:
        """A worker of ours changes one of its sessions, and beats."""
        worker = self.chance.choice(OWN)
        if worker not in self.runs:
            self.runs[worker] = {}
            self.instance[worker] += 1
            await self.registry.register(Worker(worker, str(self.instance[worker]), f"http://{worker}:1", 4))
        held = self.runs[worker]
        if held:
            session = self.chance.choice(sorted(held))
            held[session] = held[session][0], self.chance.choice(STATES), self.chance.choice(PHONES)
        reports = {name: Report(fence, state, phone) for name, (fence, state, phone) in held.items()}
        try:
            answer = await self.registry.beat(worker, str(self.instance[worker]), reports, {})
        except UnknownWorker:
            del self.runs[worker]
            return
        self.runs[worker] = {name: held.get(name, (fence, "starting", "")) for name, fence in answer.items()}

    async def list(self) -> None:
        """The existing worker changes one of its sessions, and is looked at."""
        session = f"x{self.chance.randrange(3)}"
        self.existing[session] = self.chance.choice(STATES), self.chance.choice(PHONES)
        began = await self.registry.time()
        await asyncio.sleep(0.002)
        seen = {name: ObservedSession(state, phone) for name, (state, phone) in self.existing.items()}
        await self.registry.observe(EXISTING, seen, began + 1)

    async def die(self) -> None:
        worker = self.chance.choice(OWN)
        if self.runs.pop(worker, None) is not None:
            await self.store.commands(("ZADD", "sl:{sessions}:live", "XX", 1, worker))

    async def lapse(self) -> None:
        while (await self.registry.lapse()).moved:
            pass
        await self.registry.place_orphans()

    async def create(self) -> None:
        session = f"s{self.chance.randrange(4)}"
        held = await self.registry.reserve(session, {})
        if isinstance(held, Reserved) and self.chance.random() < 0.8:
            await self.registry.confirm(session, held.fence)

    async def restore(self) -> None:
        for row in await self.registry.sessions():
            if row.ended and self.chance.random() < 0.5:
                await self.registry.restore(row.session)

    async def clean(self) -> None:
        """By one of two, who may be killed at any of it; where he is not, a dry run has named the same."""
        before, connected = await self.ended(), self.connected()
        would = [one.session async for one in find(self.registry, POLICY, 100)]
        closer, name = Closer(self, self.chance.choice((1, 2, 3, 99, 99, 99))), self.chance.choice(("one", "two"))
        last = (await cleanings(self.store)).at
        try:
            await Cleaner(self.registry, Election(self.store, name), _record).run_once(POLICY, closer, None)
        except Killed:
            await self.store.commands(("HSET", "sl:{sessions}:cleaner", "until", "0"))
        over = await self.ended() - before
        assert not over & connected, f"{over & connected} are connected"
        assert not connected & set(would)
        assert over <= set(would)
        if (await cleanings(self.store)).at != last:  # it was due, and came to its end
            assert len(over) == min(AT_ONCE, len(would))

    async def phones(self) -> None:
        before, connected = await self.ended(), self.connected()
        closer = Closer(self, 1000)
        await same_phone.run_once(self.registry, closer, POLICY, "allow", enforce=True)
        assert not (await self.ended() - before) & connected

    async def ended(self) -> set[str]:
        return {row.session for row in await self.registry.sessions() if row.ended}


async def _record(action: str, what: Mapping[str, object]) -> None:
    pass


@pytest.fixture
async def stepping(short_folder: Path, free_port: Callable[[], int]) -> AsyncIterator[tuple[Store, SteppingClock]]:
    clock = SteppingClock(short_folder)
    server = Server(short_folder, free_port(), clock=clock)
    server.start()
    store = Store(server.url, timeout=5.0)
    yield store, clock
    await store.close()
    server.kill()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.one_of(st.sampled_from(STEPS), st.sampled_from(JUMPS)), min_size=10, max_size=60),
)
async def test_no_history_ends_what_is_connected_or_more_than_a_dry_run_names(
    stepping: tuple[Store, SteppingClock], seed: int, steps: list[str | float]
) -> None:
    store, clock = stepping
    await store.commands(("FLUSHDB",))
    history = History(store, Registry(store, LEASE), random.Random(seed))
    history.registry.keep = "allow"
    await history.registry.want({f"s{number}": {} for number in range(4)})
    for step in steps:
        if isinstance(step, str):
            await getattr(history, step)()
        else:
            clock.step(step)
            await history.registry.time()
