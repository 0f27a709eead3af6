"""Workers that we do not run and that know nothing of us.

They are asked what they run, and the registry is told on their behalf. What is seen is the truth: such a worker can not
be told to start or stop anything, so nothing is ever moved onto it. A worker that does not answer is simply not
reported; its leases end by themselves.

Each is asked by itself, three times a lease, and has a lease to answer: a slow one keeps nobody waiting and loses
nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sessions.asking import Asking, NoAnswer, Seen
from sessions.behind_url import KEPT, Began, several_began, several_list
from sessions.policies import ExistingWorker
from sessions.registry import Disputed, Observation, Registry, Worker
from sluice.observe.log import Log
from sluice.process.loops import Stop
from sluice.store.client import StoreAway, StoreRefused

log = Log("sessions.existing")

_REFUSES_THE_KEY = frozenset((401, 403))
_SAME = 2.0
"""Seconds between what two answers say of one start, at most."""


@dataclass(frozen=True, slots=True)
class WatchedWorker:
    """What was last seen of an existing worker. Moments are unix seconds."""

    worker: str
    url: str
    keyed: bool
    """The policies give its key."""
    why: str | None
    """Why it did not answer; None: it did."""
    since: float
    """When it began to answer, or not to."""
    answered: bool = False
    """At least once since it is watched."""
    refused: bool = False
    """It refuses us, for the key or for want of one."""
    several: bool = False
    """Several processes answer at its address."""
    began: float | None = None
    """When its process began, as far as it says that."""
    odd: int = 0
    """Items of its list that cannot be read."""
    example: str = ""
    """One of those."""
    missing: int = 0
    """Sessions that it has and does not list."""
    disputed: tuple[Disputed, ...] = ()
    """Its sessions that another worker holds."""

    def restoring_left(self, now: float, restore: float) -> float:
        """Seconds for which the missing ones may still come back, one after the other, after a start; 0: no more.

        `restore`: how long that may take. Where it does not say when it began, it did when it began to answer.
        """
        began = self.since if self.began is None else self.began
        return max(0.0, began + restore - now) if self.missing and self.why is None else 0.0


class ExistingWorkers:
    """Watches them. `capacity`: the most sessions that are placed on each of them."""

    def __init__(self, registry: Registry, workers: Sequence[ExistingWorker], capacity: int) -> None:
        self._watches = [_Watch(registry, worker, capacity) for worker in workers]

    async def run(self, stop: Stop) -> None:
        """Looks three times a lease, until stopped; a look that goes on is broken off then."""
        try:
            async with asyncio.TaskGroup() as group:
                loops = [group.create_task(watch.run(stop)) for watch in self._watches]
                await stop.wait()
                for loop in loops:
                    loop.cancel()
        finally:
            await self.close()

    async def run_once(self) -> None:
        """Looks at all of them, once, side by side."""
        await asyncio.gather(*(watch.run_once() for watch in self._watches))

    async def close(self) -> None:
        for watch in self._watches:
            await watch.close()

    @property
    def seen(self) -> list[WatchedWorker]:
        """Those that were looked at."""
        return [watch.seen for watch in self._watches if watch.seen is not None]


class _Watch:
    """Over one of them."""

    seen: WatchedWorker | None = None

    def __init__(self, registry: Registry, worker: ExistingWorker, capacity: int) -> None:
        self._registry = registry
        self._member = Worker(worker.name, "observed", worker.url, capacity)
        self._unseen = WatchedWorker(worker.name, worker.url, worker.key is not None, None, 0.0)
        self._asking = Asking(worker, registry.lease)
        self._began: deque[Began] = deque(maxlen=KEPT)
        self._lists: deque[int] = deque(maxlen=KEPT // 2)

    async def run(self, stop: Stop) -> None:
        while not stop.requested:
            began = time.monotonic()
            await self.run_once()
            # After a slow answer at once: so nothing is lost while the next one is as slow.
            await stop.sleep(max(0.0, self._registry.lease / 3 - (time.monotonic() - began)))

    async def run_once(self) -> None:
        try:
            began = await self._registry.time()
            seen = await self._asking.ask()
            observation = await self._registry.observe(self._member, seen.listed.sessions, began)
        except NoAnswer as reason:
            self._failed(reason)
        except (StoreAway, StoreRefused):
            return  # it answered, and nobody could be told
        else:
            self._answered(seen, observation)

    async def close(self) -> None:
        await self._asking.close()

    def _failed(self, reason: NoAnswer) -> None:
        before = self.seen
        if before is None or before.why is None:
            log.warning("existing_worker.no_answer", worker=self._member.id, reason=str(reason))
        self.seen = replace(
            self._unseen,
            why=str(reason),
            since=before.since if before and before.why else time.time(),
            answered=before is not None and before.answered,
            refused=reason.status in _REFUSES_THE_KEY,
        )

    def _answered(self, seen: Seen, observation: Observation) -> None:
        self._began.extend(seen.processes)
        self._lists.append(hash(frozenset(seen.listed.sessions)))
        before = self.seen
        self.seen = replace(
            self._unseen,
            since=before.since if before and not before.why else time.time(),
            answered=True,
            several=several_began(self._began) or several_list(list(self._lists)),
            began=_moment(seen.processes),
            odd=seen.listed.odd,
            example=seen.listed.example,
            missing=len(observation.missing),
            disputed=observation.disputed,
        )
        self._tell(before, self.seen)

    def _tell(self, before: WatchedWorker | None, now: WatchedWorker) -> None:
        """In the log, what is new."""
        name = now.worker
        if before and before.why:
            log.info("existing_worker.answered_again", worker=name)
        for dispute in set(now.disputed) - set(before.disputed if before else ()):
            log.warning("session.claimed_twice", session=dispute.session, owner=dispute.owner, also_at=name)
        if now.odd and not (before and before.odd):
            log.warning("existing_worker.odd_items", worker=name, items=now.odd, example=now.example)
        if now.several and not (before and before.several):
            log.warning("existing_worker.several_processes", worker=name)
        if before and before.began and now.began and now.began - before.began > _SAME and not now.several:
            log.info("existing_worker.restarted", worker=name, ago=time.time() - now.began)


def _moment(processes: Sequence[Began]) -> float | None:
    """In unix seconds, of the youngest."""
    youngest = max(processes, key=lambda one: one.latest, default=None)
    return time.time() - (time.monotonic() - youngest.latest) if youngest else None
