"""Whatever happens, in whatever order, and whoever dies in between: what must always be true of the registry is.

Workers are played as they behave: one of ours runs what its beats are answered, stops what it reported and is not
answered any more, and may die, or lose an answer, at any step; an existing one runs what it was asked to create and
lists it. Gateways may die between reserving and confirming. The model is what a person would say: which sessions there
are, and who runs which.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pytest

from sessions.registry import (
    Ended,
    ObservedSession,
    Owner,
    Registered,
    Registry,
    Report,
    Reserved,
    SessionRow,
    Unknown,
    UnknownWorker,
    Unowned,
    Worker,
)
from sluice.store.client import Store

pytestmark = pytest.mark.anyio

SESSIONS = [f"s{i}" for i in range(5)]
STATES = ("starting", "qr_scanning", "connected", "connected", "disconnected", "failed")
PHONES = ("", "491", "+492")
CAPACITY = 3


@dataclass
class Own:
    """A worker of ours, as it really is."""

    name: str
    instance: int = 0
    running: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    stopped: dict[str, int] = field(default_factory=dict)
    creates_above: int = 0
    alive: bool = False

    def dies(self) -> None:
        self.running, self.ended, self.stopped, self.creates_above, self.alive = {}, {}, {}, 0, False

    def accepts(self, session: str, fence: int) -> bool:
        """As `Membership.accept` decides."""
        if self.alive and fence > self.creates_above and session not in self.ended:
            self.running.setdefault(session, fence)
        return self.running.get(session) == fence


@dataclass
class Existing:
    name: str
    running: dict[str, str] = field(default_factory=dict)

    @property
    def worker(self) -> Worker:
        return Worker(self.name, "observed", f"http://{self.name}:1", 1)


class History:
    def __init__(self, registry: Registry, store: Store, seed: int) -> None:
        self.registry, self.store, self.chance = registry, store, random.Random(seed)
        self.own = [Own("a"), Own("b"), Own("c")]
        self.existing = [Existing("x"), Existing("y")]
        self.known: set[str] = set()
        self.places: list[tuple[str, Reserved]] = []
        self.fences: dict[str, int] = {}
        self.deleted: dict[str, int] = {}
        self.log: list[str] = []

    async def step(self) -> None:
        acts = (
            *(
                self.register,
                self.beat,
                self.beat,
                self.beat,
                self.list,
                self.list,
                self.create,
                self.create,
                self.create,
            ),
            *(self.settle, self.settle, self.want, self.delete, self.end, self.drain, self.grant, self.grant),
            *(self.die, self.lapse, self.move, self.move, self.move, self.forget, self.forget, self.replace),
            *(self.put_away, self.put_away, self.restore),
        )
        act = self.chance.choice(acts)
        self.log.append(act.__name__)
        await act()

    # --- workers of ours

    async def register(self) -> None:
        worker = self.chance.choice(self.own)
        if not worker.alive:
            worker.instance += 1
            worker.alive = True
        about = Worker(worker.name, str(worker.instance), f"http://{worker.name}:1", CAPACITY)
        found = await self.registry.register(about)
        assert isinstance(found, Registered)
        worker.creates_above = max(worker.creates_above, found.creates_above)

    async def beat(self) -> None:
        worker = self.chance.choice(self.own)
        if not worker.alive:
            return
        reports = {
            session: Report(fence, self.chance.choice(STATES), self.chance.choice(PHONES))
            for session, fence in worker.running.items()
        }
        ended, stopped = dict(worker.ended), dict(worker.stopped)
        try:
            answer = await self.registry.beat(
                *(worker.name, str(worker.instance), reports, ended, stopped), creates_above=worker.creates_above
            )
        except UnknownWorker:
            worker.dies()  # it stops everything, and registers anew
            return
        self.known -= {s for s, f in ended.items() if await self.registry.owner_of(s) == Unknown()}
        self.known |= {session for session in answer if session in reports}
        for _ in range(self.chance.choice((0, 0, 1, 2))):
            await self.settle()  # a create that comes before the answer
        if self.chance.random() < 0.3:
            return  # the answer was lost
        worker.creates_above = max(worker.creates_above, answer.creates_above)
        worker.ended = worker.stopped = {}
        worker.running = {s: f for s, f in worker.running.items() if s not in reports or answer.get(s) == f}
        for session, fence in answer.items():
            worker.running.setdefault(session, fence)

    async def end(self) -> None:
        """A person ends one there."""
        worker = self.chance.choice(self.own)
        if worker.running:
            session = self.chance.choice(sorted(worker.running))
            worker.ended[session] = worker.running.pop(session)

    async def drain(self) -> None:
        worker = self.chance.choice(self.own)
        if worker.running:
            session = self.chance.choice(sorted(worker.running))
            worker.stopped[session] = worker.running.pop(session)

    async def die(self) -> None:
        if self.chance.random() < 0.4:
            self.chance.choice(self.own).dies()

    async def lapse(self) -> None:
        """The lease of one is over: it has stopped by its own clock."""
        if self.chance.random() < 0.5:
            return
        name = self.chance.choice([*(worker.name for worker in self.own), "x", "y"])
        for worker in self.own:
            if worker.name == name:
                worker.dies()
        await self.store.commands(("ZADD", "sl:{sessions}:live", "XX", 1, name))

    # --- existing ones

    async def list(self) -> None:
        node = self.chance.choice(self.existing)
        seen = {
            session: ObservedSession(state, self.chance.choice(PHONES), {"workspace_id": 1})
            for session, state in node.running.items()
        }
        if seen and self.chance.random() < 0.3:
            seen.pop(self.chance.choice(sorted(seen)))
        began = await self.registry.time()
        while await self.registry.time() == began:
            pass
        found = await self.registry.observe(node.worker, seen, began + 1)
        disputed = {one.session for one in found.disputed}
        assert disputed <= seen.keys()
        self.known |= seen.keys() - disputed

    # --- gateways

    async def create(self) -> None:
        session = self.chance.choice(SESSIONS)
        held = await self.registry.reserve(session, {"workspace_id": self.chance.randrange(3)})
        if isinstance(held, Owner):
            assert session in self.known
        if not isinstance(held, Reserved):
            return
        assert held.fence >= self.fences.get(session, 0)
        self.fences[session] = held.fence
        if self.chance.random() < 0.85:  # else the gateway died before it asked the worker
            self.places.append((session, held))

    async def settle(self) -> None:
        """The worker answers a create, and the gateway says so, or is killed before it does."""
        if not self.places:
            return
        session, held = self.places.pop(self.chance.randrange(len(self.places)))
        accepts, killed = self.chance.random() < 0.7, self.chance.random() < 0.2
        accepts = accepts and self.runs(session, held)
        if killed:
            return
        if accepts and await self.registry.confirm(session, held.fence):
            self.known.add(session)
        elif not accepts:
            await self.registry.cancel(session, held.fence)

    def runs(self, session: str, held: Reserved) -> bool:
        """Whether the worker that it is asked of begins it."""
        for node in self.existing:
            if node.name == held.worker:
                node.running[session] = self.chance.choice(STATES)
                return True
        return any(worker.accepts(session, held.fence) for worker in self.own if worker.name == held.worker)

    async def want(self) -> None:
        session = self.chance.choice(SESSIONS)
        if await self.registry.want({session: {"workspace_id": 1}}):
            self.known.add(session)

    async def delete(self) -> None:
        """Its owner has closed it, and answered so."""
        session = self.chance.choice(SESSIONS)
        owner = await self.registry.owner_of(session)
        if not isinstance(owner, Owner):
            return
        for node in self.existing:
            if node.name == owner.worker:
                node.running.pop(session, None)
        for worker in self.own:
            if worker.name == owner.worker:
                if not worker.alive:
                    return  # nobody answers
                worker.running.pop(session, None)
        assert await self.registry.forget(session)
        self.known.discard(session)
        assert await self.registry.owner_of(session) == Unknown()

    async def grant(self) -> None:
        while (await self.registry.lapse()).moved:
            pass
        await self.registry.place_orphans()

    # --- people

    async def move(self) -> None:
        session = self.chance.choice(SESSIONS)
        if self.chance.random() < 0.5:
            await self.registry.release(session)
        else:
            await self.registry.move(session, self.chance.choice(("a", "b", "c", "x", "nobody")))

    async def forget(self) -> None:
        session = self.chance.choice(SESSIONS)
        assert await self.registry.forget(session, closed=False) == (session in self.known) or session not in self.known
        self.known.discard(session)

    async def put_away(self) -> None:
        """A person, or the cleaner, ends one: an existing worker closes it first."""
        session = self.chance.choice(SESSIONS)
        for node in self.existing:
            node.running.pop(session, None)
        found = await self.registry.end(session, "deleted", closed=True)
        if isinstance(found, Ended):
            assert await self.registry.owner_of(session) == Unknown()
            assert session in {row.session for row in await self.registry.sessions()}

    async def restore(self) -> None:
        session = self.chance.choice(SESSIONS)
        row = await self.registry.session(session)
        assert await self.registry.restore(session) == (row is not None and row.ended != "")

    async def replace(self) -> None:
        """A person forgets one and somebody creates it anew at once."""
        session = self.chance.choice(SESSIONS)
        await self.registry.forget(session, closed=False)
        self.known.discard(session)
        held = await self.registry.reserve(session, {})
        if isinstance(held, Reserved):
            self.fences[session] = held.fence
            if self.runs(session, held) and await self.registry.confirm(session, held.fence):
                self.known.add(session)

    # --- what must always be true

    async def check(self) -> None:
        while (await self.registry.lapse()).moved:
            pass
        rows = {row.session: row for row in await self.registry.sessions()}
        assert rows.keys() >= self.known, f"lost: {self.known - rows.keys()} after {self.log[-8:]}"
        self.known = set(rows)  # by a beat or a list that confirmed what a killed gateway had reserved
        summary = await self.registry.summary()
        kept = [row for row in rows.values() if not row.ended]
        assert summary.states == dict(Counter(row.state for row in kept))
        assert (summary.total, summary.ended) == (len(kept), len(rows) - len(kept))
        assert summary.unowned == sum(row.worker is None for row in kept)
        assert all(row.worker is None for row in rows.values() if row.ended)
        self.check_phones(kept)
        assert summary.connected == sum(row.worker is not None and row.state == "connected" for row in rows.values())
        for worker in summary.workers:
            mine = [row for row in rows.values() if row.worker == worker.worker]
            waits = [row for row in rows.values() if row.existing and row.last_owner == worker.worker]
            stays = [row.session for row in kept]
            assert worker.sessions - await self.hidden(worker.worker, stays) == len(mine), self.log[-8:]
            assert worker.waiting <= len(waits), "some may be reserved again"
            if not worker.existing:
                assert worker.sessions + worker.reserved <= worker.capacity, self.log[-8:]
        await self.check_fences()
        self.check_runs()

    async def hidden(self, worker: str, rows: Collection[str]) -> int:
        """Sessions that were forgotten or ended, and which it has not stopped yet."""
        start, end = f"[{worker} ", f"({worker}!"
        (members,) = await self.store.commands(("ZRANGEBYLEX", "sl:{sessions}:places", start, end))
        names = {member.decode().split(" ", 2)[2] for member in members}
        counted = 0
        for name in names:
            if name not in rows and not await self.is_reserved(name):
                counted += 1
        return counted

    async def is_reserved(self, session: str) -> bool:
        (score,) = await self.store.commands(("ZSCORE", "sl:{sessions}:reserved", session))
        return score is not None

    def check_phones(self, rows: Iterable[SessionRow]) -> None:
        connected = [row for row in rows if row.worker and row.state == "connected" and row.phone and not row.rival]
        of = Counter((row.workspace, row.phone) for row in connected)
        assert not [phone for phone, count in of.items() if count > 1], self.log[-8:]

    async def check_fences(self) -> None:
        for session in SESSIONS:
            owner = await self.registry.owner_of(session)
            if isinstance(owner, Owner):
                assert owner.fence >= self.fences.get(session, 0), self.log[-8:]
                self.fences[session] = owner.fence
            else:
                assert isinstance(owner, Unowned | Unknown)

    def check_runs(self) -> None:
        running = Counter(session for worker in self.own if worker.alive for session in worker.running)
        assert not [session for session, count in running.items() if count > 1], self.log[-10:]


@pytest.mark.parametrize("seed", [*range(8), 65, 72])
async def test_no_history_loses_a_session_or_gives_it_to_two(store: Store, seed: int) -> None:
    history = History(Registry(store, 600.0), store, seed)
    for _ in range(200):
        await history.step()
        await history.check()
