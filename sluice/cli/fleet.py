"""The workers of `sluice up --workers 2..8`: as many as are wanted, within these bounds.

    (not there) ── more are wanted ──▶ runs ── fewer are wanted ──▶ drains ── it has no session ──▶ is stopped
                                         ▲                             │
                                         └────── more are wanted ──────┘

One that a person has drain (`sluice workers drain`) runs until he takes it back: it does not count as one of those that
are wanted, is never taken back or stopped from here, and another one is started in its place while there may be more.

The gateways say how many are wanted, and move the sessions of those that drain (`sessions/lifecycle/scaler.py`). That
one is to drain stands in the store; here it is only said again, so nothing is lost where we are killed in between.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import count as count_from
from typing import Literal

from sessions.rebalancing import busy
from sessions.records import WorkerRow
from sessions.registry import Registry
from sluice.config.problems import quoted
from sluice.console.messages.wording import some
from sluice.process.loops import Stop
from sluice.process.supervisor import Program, Say, Supervisor
from sluice.store.client import StoreAway, StoreRefused

MOST = 64
"""Workers of one machine."""
_EVERY = 1.0
_GROWS_FOR = 30.0
"""Seconds for which creates that find no room may go on waiting, after it was last said that workers are started."""
_LATE_AFTER = 300.0
"""Seconds after which a worker that drains should have no session any more."""


@dataclass(frozen=True, slots=True)
class WorkerCount:
    least: int
    most: int

    @property
    def is_fixed(self) -> bool:
        return self.least == self.most

    def __str__(self) -> str:
        return str(self.least) if self.is_fixed else f"{self.least}..{self.most}"


def worker_count(text: str) -> WorkerCount:
    """`2`, or `2..8`."""
    first, dots, last = text.partition("..")
    if not all(part.isascii() and part.isdigit() for part in (first, last if dots else first)):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number of workers; write 2, or 2..8")
    least, most = int(first), int(last if dots else first)
    if dots and least == 0:
        raise argparse.ArgumentTypeError(f"{quoted(text)} begins with none; write 1..{max(1, most)}")
    if least > most:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is the wrong way round; write {most}..{least}")
    if most > MOST:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is more than one machine is to run; {MOST} are the most")
    return WorkerCount(least, most)


@dataclass(frozen=True, slots=True)
class Step:
    does: Literal["start", "take back", "drain", "stop"]
    worker: str


def next_step(
    count: WorkerCount,
    wanted: int,
    running: Mapping[str, bool],
    ending: Collection[str],
    seen: Mapping[str, WorkerRow],
    busy_at: Mapping[str, int],
    driver: str = "demo",
) -> Step | None:
    """`running`: our workers, and whether each of them is to drain; `ending`: those that are being stopped. `seen`: all
    workers of the registry. `busy_at`: sessions of a worker that are busy, as far as they were looked at."""
    emptied = by_a_person(running, seen)
    staying = [name for name, drains in running.items() if not drains and name not in emptied]
    target = min(max(count.least, min(count.most, wanted)), count.most - len(emptied))
    draining = [name for name, drains in running.items() if drains]
    if len(staying) < target:
        back = [name for name in draining if name in seen and seen[name].beat_left > 0]
        if back:
            return Step("take back", max(back, key=lambda name: (_taken(seen, name), name)))
        taken = {*running, *ending, *(name for name, row in seen.items() if row.beat_left > 0)}
        free = next(name for name in (worker_name(driver, number) for number in count_from(1)) if name not in taken)
        return Step("start", free)
    if len(staying) > target:
        least = min(staying, key=lambda name: (busy_at.get(name, 0) > 0, _taken(seen, name), -_number(name)))
        return Step("drain", least)
    for name in draining:
        row = seen.get(name)
        if row is None or row.beat_left <= 0:
            return Step("stop", name)  # it is being started again, or is lost, and has nothing any more
        if row.drains is None:
            return Step("drain", name)  # it had lapsed meanwhile
        if _taken(seen, name) == 0:
            return Step("stop", name)
    return None


def by_a_person(running: Mapping[str, bool], seen: Mapping[str, WorkerRow]) -> set[str]:
    """Those of ours that drain though nothing here wants them to."""
    rows = {name: seen[name] for name, drains in running.items() if not drains and name in seen}
    return {name for name, row in rows.items() if row.drains is not None and row.beat_left > 0}


class Fleet:
    """`program`: of the worker with this name."""

    def __init__(
        self,
        count: WorkerCount,
        registry: Registry,
        supervisor: Supervisor,
        program: Callable[[str], Program],
        say: Say,
        driver: str = "demo",
    ) -> None:
        self._driver = driver
        self._count = count
        self._registry = registry
        self._supervisor = supervisor
        self._program = program
        self._say = say
        self._running: dict[str, bool] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._late: set[str] = set()
        self._emptied: set[str] = set()
        self._name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        """For those of other machines."""
        self._beyond = 0

    async def run(self, stop: Stop) -> None:
        """Until stopped. While the store is away nothing changes."""
        try:
            while not stop.requested:
                with contextlib.suppress(StoreAway, StoreRefused):
                    await self.run_once()
                await stop.sleep(_EVERY)
        finally:
            with contextlib.suppress(StoreAway, StoreRefused):
                await self._registry.will_grow(self._name, 0.0, 0, 0.0)
            await asyncio.gather(*self._ending.values())

    async def run_once(self) -> None:
        """As many steps as there are to be done now."""
        decision = (await self._registry.scaling()).decision
        wanted = decision.wanted.workers if decision else self._count.least
        for_them = f"{wanted} wanted for {decision.demand.sessions} sessions" if decision else "the least"
        self._tell_bounds(wanted, for_them)
        for _ in range(MOST):
            seen = {one.worker: one for one in await self._registry.workers()}
            busy_at: dict[str, int] = {}
            self._tell_emptied(seen)
            step = self._next_step(wanted, seen, busy_at)
            if step is not None and step.does == "drain" and not self._running[step.worker]:
                busy_at = await self._busy(seen)
                step = self._next_step(wanted, seen, busy_at)
            if step is None:
                self._tell_late(seen)
                there = [name for name in self._staying() if name in seen and seen[name].beat_left > 0]
                most = self._count.most - len(self._emptied)
                await self._registry.will_grow(self._name, _GROWS_FOR if len(there) < most else 0.0, most, _GROWS_FOR)
                return
            await self._do(step, seen, for_them)

    def _next_step(self, wanted: int, seen: Mapping[str, WorkerRow], busy_at: Mapping[str, int]) -> Step | None:
        return next_step(self._count, wanted, self._running, self._ending, seen, busy_at, self._driver)

    def _staying(self) -> list[str]:
        return [name for name, drains in self._running.items() if not drains and name not in self._emptied]

    async def _busy(self, seen: Mapping[str, WorkerRow]) -> dict[str, int]:
        names = [name for name in self._staying() if name in seen]
        return {name: busy(await self._registry.held_by(name)) for name in names}

    async def _do(self, step: Step, seen: Mapping[str, WorkerRow], for_them: str) -> None:
        name = step.worker
        match step.does:
            case "start":
                self._running[name] = False
                self._supervisor.add(self._program(name))
                self._say(f"{name} is started ({for_them})")
            case "take back":
                await self._registry.take_back(name)
                self._running[name] = False
                self._say(f"{name} is taken back and drains no more ({for_them})")
            case "drain":
                there = await self._registry.drain(name)
                if not self._running[name]:
                    its = _taken(seen, name)
                    goes = f"; its {some(its, 'session goes', 'sessions go')} to others" if there and its else ""
                    self._say(f"{name} drains ({for_them}){goes}")
                self._running[name] = True
            case "stop":
                del self._running[name]
                self._late.discard(name)
                self._say(f"{name} has no session any more and is stopped")
                self._ending[name] = asyncio.create_task(self._end(name))

    async def _end(self, name: str) -> None:
        try:
            await self._supervisor.remove(name)
        finally:
            del self._ending[name]

    def _tell_emptied(self, seen: Mapping[str, WorkerRow]) -> None:
        emptied = by_a_person(self._running, seen)
        for name in sorted(emptied - self._emptied):
            self._say(f"{name} drains, as a person wants it to: it runs until sluice workers take-back {name}")
        for name in sorted(self._emptied - emptied):
            self._say(f"{name} does not drain any more")
        self._emptied = emptied

    def _tell_bounds(self, wanted: int, for_them: str) -> None:
        beyond = max(0, wanted - self._count.most)
        if beyond > self._beyond:
            self._say(f"more workers are wanted than --workers {self._count} allows ({for_them})")
        self._beyond = beyond

    def _tell_late(self, seen: Mapping[str, WorkerRow]) -> None:
        for name, drains in self._running.items():
            row = seen.get(name)
            if drains and row is not None and (row.drains or 0.0) >= _LATE_AFTER and name not in self._late:
                self._late.add(name)
                self._say(
                    f"{name} drains for {_LATE_AFTER / 60:.0f} minutes, has {_taken(seen, name)} sessions still, and "
                    "runs until they have gone: sluice status"
                )


def worker_name(driver: str, number: int) -> str:
    """The same after each start, so that it gets its sessions back."""
    return f"{driver}-{number}"


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _taken(seen: Mapping[str, WorkerRow], name: str) -> int:
    row = seen.get(name)
    return 0 if row is None or row.beat_left <= 0 else row.sessions + row.reserved
