"""`sluice up --workers 2..8` while sessions become four times as many and as few again, with requests all the while."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx2

from sessions.registry import Registry
from sessions.scaling import DOWN, UP
from sluice.process.addresses import store_url
from sluice.store.client import Store, StoreAway, StoreRefused
from tests.e2e.deployment import Deployment, deployment
from tests.e2e.receiver import receiving

LEASE = 3.0
HOLD = LEASE + 5.0
"""Seconds for which a gateway holds a request for a session that nobody has."""
_REQUEST_WITHIN = 30.0
"""Laravel waits for so long."""
_LOOK_EVERY = 0.25
SETTLED = 3.0
"""Seconds in which gateways find out that creates which had waited for room have found it."""


@dataclass(frozen=True, slots=True)
class Phase:
    sessions: int
    staying: list[int]
    """Workers that do not drain, look by look."""
    followed_after: float | None
    """Seconds until there were as many as are right for these sessions, and those that drained had ended."""

    @property
    def turns(self) -> int:
        steps = [after > before for before, after in pairwise(self.staying) if after != before]
        return sum(one != other for one, other in pairwise(steps))


@dataclass
class Scaling:
    """What was seen."""

    phases: list[Phase] = field(default_factory=list)
    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """By what came of them."""
    slowest: float = 0.0
    longest_unowned: float = 0.0
    """Seconds for which a session had no owner, at most."""

    def faults(self, within: float = 60.0) -> list[str]:
        found = [f"{number} requests: {what}" for what, number in self.failed.items()]
        if self.slowest > _REQUEST_WITHIN:
            found.append(f"a request took {self.slowest:.1f}s")
        if self.longest_unowned > HOLD:
            found.append(f"a session had no owner for {self.longest_unowned:.1f}s")
        for phase in self.phases:
            if phase.followed_after is None or phase.followed_after > within:
                found.append(f"{phase.sessions} sessions: workers did not follow in time: {sorted({*phase.staying})}")
            if phase.turns > 1:
                found.append(f"{phase.sessions} sessions: {phase.turns} changes of direction: {phase.staying}")
        return found

    def __str__(self) -> str:
        lines = [
            f"{one.sessions} sessions: {one.staying[0]} -> {one.staying[-1]} workers, followed after "
            f"{'-' if one.followed_after is None else format(one.followed_after, '.1f')}s, "
            f"{one.turns} changes of direction"
            for one in self.phases
        ]
        lines.append(
            f"{self.requests} requests, {self.failed.total()} failed, the slowest took {self.slowest:.1f}s; no session "
            f"was without an owner for more than {self.longest_unowned:.1f}s (hold: {HOLD:.0f}s)"
        )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Size:
    low: int
    high: int
    per_worker: int
    workers: str = "2..8"


class Sessions:
    """Creates and deletes them, and sends to each of them every few seconds."""

    def __init__(self, gateway: str, seen: Scaling, seed: int) -> None:
        limits = httpx2.Limits(max_connections=200)
        self._client = httpx2.AsyncClient(
            base_url=gateway, trust_env=False, timeout=_REQUEST_WITHIN + 5.0, limits=limits
        )
        self._seen = seen
        self._random = random.Random(seed)
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._number = 0

    async def grow_to(self, number: int) -> None:
        names = []
        while len(self._senders) + len(names) < number:
            self._number += 1
            names.append(f"webjs_1_{self._number}_a")
        await asyncio.gather(*map(self._create, names))

    async def shrink_to(self, number: int) -> None:
        names = self._random.sample(sorted(self._senders), len(self._senders) - number)
        await asyncio.gather(*map(self._delete, names))

    async def close(self) -> None:
        for sender in self._senders.values():
            sender.cancel()
        await asyncio.gather(*self._senders.values(), return_exceptions=True)
        await self._client.aclose()

    async def _create(self, name: str) -> None:
        self._senders[name] = asyncio.create_task(asyncio.sleep(0))
        if await self._ask("POST", "/api/sessions", {"session_id": name, "workspace_id": 1}):
            self._senders[name] = asyncio.create_task(self._send(name))

    async def _delete(self, name: str) -> None:
        sender = self._senders.pop(name)
        sender.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sender
        await self._ask("DELETE", f"/api/sessions/{name}", None)

    async def _send(self, name: str) -> None:
        message = {"session_id": name, "recipient_phone": "628110", "message": "hello"}
        await asyncio.sleep(2.0)
        while True:
            # What is sent already is waited for, also by who is to stop.
            await asyncio.shield(asyncio.create_task(self._ask("POST", "/api/messages/send", message)))
            await asyncio.sleep(self._random.uniform(3.0, 7.0))

    async def _ask(self, method: str, path: str, body: dict[str, object] | None) -> bool:
        began = time.monotonic()
        try:
            answer = await self._client.request(method, path, json=body)
            outcome = (
                "" if answer.is_success else f"{method} {path.rpartition('/')[0]}: {answer.status_code} {answer.text}"
            )
        except httpx2.HTTPError as error:
            outcome = f"{method}: {type(error).__name__}"
        self._seen.requests += 1
        self._seen.slowest = max(self._seen.slowest, time.monotonic() - began)
        if outcome:
            self._seen.failed[outcome] += 1
        return not outcome


class Watch:
    """Looks at the registry all the while."""

    def __init__(self, registry: Registry, seen: Scaling) -> None:
        self._registry = registry
        self._seen = seen
        self._unowned: dict[str, float] = {}
        self.staying: list[int] = []
        self.live = 0

    async def run(self) -> None:
        while True:
            with contextlib.suppress(StoreAway, StoreRefused):
                await self._look()
            await asyncio.sleep(_LOOK_EVERY)

    async def _look(self) -> None:
        rows = await self._registry.workers()
        self.staying.append(sum(one.beat_left > 0 and one.drains is None and not one.draining for one in rows))
        self.live = sum(one.beat_left > 0 for one in rows)
        now, without = time.monotonic(), {row.session for row in await self._registry.sessions() if row.worker is None}
        self._unowned = {name: self._unowned.get(name, now) for name in without}
        for since in self._unowned.values():
            self._seen.longest_unowned = max(self._seen.longest_unowned, now - since)


@asynccontextmanager
async def scaled(folder: Path, ports: tuple[int, int], size: Size) -> AsyncIterator[tuple[Deployment, Registry]]:
    """`sluice up --workers` with a receiver, and the registry that it uses."""
    async with receiving(ports[1]), deployment(folder, ports) as sluice:
        text = sluice.file.read_text().replace("per_worker: 60", f"per_worker: {size.per_worker}")
        sluice.file.write_text(text)
        await sluice.start_up("--workers", size.workers)
        store = Store(store_url(sluice.policies), timeout=5.0)
        try:
            yield sluice, Registry(store, LEASE)
        finally:
            await store.close()


async def scaling(
    folder: Path, ports: tuple[int, int], size: Size, *, phases: int, seconds: float, seed: int, hurry: bool = False
) -> Scaling:
    """`phases`: how often it rises or falls; each lasts `seconds`, or, in a `hurry`, until the workers followed."""
    seen = Scaling()
    async with scaled(folder, ports, size) as (sluice, registry):
        watch, sessions = Watch(registry, seen), Sessions(sluice.gateway, seen, seed)
        watching = asyncio.create_task(watch.run())
        try:
            await sessions.grow_to(size.low)
            await _followed(watch, size, size.low, seconds)
            for number in range(phases):
                watch.staying.clear()
                began, wanted = time.monotonic(), size.low if number % 2 else size.high
                await (sessions.shrink_to(wanted) if number % 2 else sessions.grow_to(wanted))
                after = await _followed(watch, size, wanted, seconds - (time.monotonic() - began))
                took = None if after is None else time.monotonic() - began
                left = SETTLED if hurry else seconds - (time.monotonic() - began)
                await asyncio.sleep(max(0.0, left))
                seen.phases.append(Phase(wanted, watch.staying[:] or [0], took))
        finally:
            watching.cancel()
            await sessions.close()
    return seen


async def _followed(watch: Watch, size: Size, sessions: int, seconds: float) -> float | None:
    """Seconds until there are as many workers as is right for so many sessions; None: not within `seconds`."""
    least, most = map(int, size.workers.split(".."))
    enough = max(least, min(most, math.ceil(sessions / (UP * size.per_worker))))
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        there = watch.staying[-1] if watch.staying else 0
        few = (
            there == least
            or sessions >= DOWN * size.per_worker * there
            or sessions > UP * size.per_worker * (there - 1)
        )
        if there >= enough and few and watch.live == there:
            return time.monotonic() - began
        await asyncio.sleep(_LOOK_EVERY)
    return None
