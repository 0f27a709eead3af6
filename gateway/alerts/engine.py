"""Telling people what goes wrong, in one gateway at a time: another goes on when it is killed.

Every gateway reads the board every few seconds; the one that leads looks at what is wrong, decides, and sends. Each
receiver is sent to by a task of its own, one message at a time, so one that hangs is in nobody's way. It counts as told
when it has taken the message, and that is kept at once: a gateway that is killed in between may tell it twice, and no
gateway tells it never. While the store is away one process of each machine goes on by what it knows (`stand_in`).

What only a machine itself knows, such as its disk, the gateways of the others report to the one that leads (`looking`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.alerts import metrics
from gateway.alerts.board import MAX_HISTORY, Board, Known, Memory, Notification, Reading, ReceiverState, merged
from gateway.alerts.decide import Due, Silence, after, decide
from gateway.alerts.looking import Looking, See
from gateway.alerts.rendering import MAX_AT_ONCE
from gateway.alerts.send import SendFailed, send
from gateway.alerts.stand_in import StandIn
from gateway.alerts.webhook import beat
from gateway.policies import Policies
from sluice.observe.log import Log
from sluice.process.boottime import boottime
from sluice.process.loops import Stop
from sluice.store.client import Store, StoreAway, StoreRefused

LOG = Log("alerts")
EVERY = 5.0
"""Seconds between two looks."""
LEASE = 15.0
HEARTBEAT = "(heartbeat)"
"""Among the names of receivers, none of which has braces."""
_FIRST_WAIT, _MAX_WAIT = 5.0, 300.0
_BEAT_TIMEOUT = 10.0


@dataclass(slots=True)
class _Lane:
    """To one receiver."""

    task: asyncio.Task[None] | None = None
    not_before: float = 0.0
    """Monotonic seconds."""

    @property
    def is_free(self) -> bool:
        return (self.task is None or self.task.done()) and time.monotonic() >= self.not_before


def open_engine(
    store: Store,
    name: str,
    policies: Callable[[], Policies],
    see: See,
    see_here: See,
    machine: str | None = None,
) -> Engine:
    """`name`: of this process; no two that run have the same. `see` looks at what is wrong now, `see_here` at what only
    this machine knows."""
    board = Board(store, name, machine or socket.gethostname())
    return Engine(board, Looking(board, see, see_here), policies)


class Engine:
    def __init__(self, board: Board, looking: Looking, policies: Callable[[], Policies]) -> None:
        self._board = board
        self._looking = looking
        self._policies = policies
        self._stand_in = StandIn(policies().data)
        self._lock = asyncio.Lock()
        self._revision = 0
        self._base = self._memory = Memory()
        self._silences: tuple[Silence, ...] = ()
        self._history: deque[Notification] = deque(maxlen=MAX_HISTORY)
        self._kept: tuple[Memory, int] | None = None
        """What was sent to the store last, with so many entries of the history."""
        self._offset = 0.0
        """Of the time of the scripts to our clock, in seconds."""
        self._leads = False
        self._led_at = -LEASE
        self._lanes: dict[str, _Lane] = {}
        self._beat_at = 0.0

    @property
    def known(self) -> Known:
        """As of the last look at the board, which is a few seconds old."""
        return Known(self._memory, self._silences, self._stand_in.held, self._now)

    async def run(self, stop: Stop) -> None:
        try:
            while not stop.requested:
                await self.run_once()
                await stop.sleep(EVERY)
        finally:
            await self._end()

    async def run_once(self) -> None:
        policies = self._policies()
        alerts = policies.alerts
        wanted = bool(alerts.rules or alerts.heartbeat or self._memory.alerts)
        if not wanted and not self._leads:
            return
        self._leads = await self._lead(wanted=wanted)
        if not self._leads:
            await self._looking.report()
            return
        self._led_at = boottime()
        seen = await self._looking.all(alone=self._stand_in.held)
        if seen is None:
            return
        dues, found = decide(seen, alerts, self._memory.alerts, self._silences, self._now)
        names = {*alerts.receivers, *((HEARTBEAT,) if alerts.heartbeat else ())}
        states = {name: state for name, state in self._memory.receivers.items() if name in names}
        self._memory = Memory(found, states)
        self._begin(policies, dues)
        self._begin_beat(policies)
        await self._keep()

    # --- who leads, and what is remembered

    async def _lead(self, *, wanted: bool) -> bool:
        async with self._lock:
            try:
                reading = await self._board.read(LEASE if wanted else 0.0, self._revision)
            except (StoreAway, StoreRefused):
                self._looking.take(None)
                return wanted and self._stand_for()
            self._take(reading)
        if self._memory != self._base:
            await self._keep()
        return reading.leads

    def _take(self, reading: Reading) -> None:
        self._offset, self._silences = reading.now - time.time(), reading.silences
        self._looking.take(reading)
        began_to_lead = reading.leads and not self._leads
        if reading.memory is not None:
            self._merge(reading.memory, reading.revision)
        if self._stand_in.held:
            self._stand_in.let_go()
        elif began_to_lead and (left := self._stand_in.read()) is not None:
            # Of one that stood in and was killed before the store was back.
            self._memory = merged(self._base, left, self._memory)

    def _merge(self, theirs: Memory, revision: int) -> None:
        """A store that was emptied knows nothing of what was told: what is known here counts."""
        base = self._base if revision > self._revision else Memory()
        if self._kept is not None and self._kept[0] == theirs:
            for _ in range(min(self._kept[1], len(self._history))):
                self._history.popleft()
        self._memory = merged(base, self._memory, theirs)
        self._base, self._revision, self._kept = theirs, revision, None

    def _stand_for(self) -> bool:
        """Whether this process tells while the store is away."""
        had = self._stand_in.held
        if not self._stand_in.take():
            return False
        if not had and self._stand_in.held and (left := self._stand_in.read()) is not None:
            self._memory = merged(self._base, left, self._memory)
        return True

    async def _keep(self) -> None:
        async with self._lock:
            memory, notified = self._memory, list(self._history)
            if memory == self._base and not notified:
                return
            if self._stand_in.held:
                await asyncio.to_thread(self._stand_in.write, memory)
                return
            self._kept = memory, len(notified)
            try:
                revision = await self._board.keep(self._revision, memory.encode(), notified)
            except (StoreAway, StoreRefused):
                return
            if revision:
                for _ in notified:
                    self._history.popleft()
                self._base, self._revision, self._kept = memory, revision, None
                self._stand_in.forget()

    @property
    def _now(self) -> float:
        return time.time() + self._offset

    # --- telling

    def _begin(self, policies: Policies, dues: Sequence[Due]) -> None:
        by_receiver: dict[str, list[Due]] = {}
        for due in dues:
            by_receiver.setdefault(due.receiver, []).append(due)
        for name, its in by_receiver.items():
            lane = self._lanes.setdefault(name, _Lane())
            if lane.is_free:
                lane.task = asyncio.create_task(self._tell(policies, its[:MAX_AT_ONCE], lane))

    async def _tell(self, policies: Policies, dues: Sequence[Due], lane: _Lane) -> None:
        if boottime() - self._led_at > LEASE:
            return  # this process was stopped for a while, and another one leads
        name = dues[0].receiver
        try:
            said = await send(policies, policies.alerts.receivers[name], dues, self._now, socket.gethostname())
        except SendFailed as failed:
            self._failed(name, lane, str(failed))
        else:
            now = self._now
            self._taken(name)
            self._memory = replace(self._memory, alerts=after(self._memory.alerts, dues, now))
            for due in dues:
                alert = due.alert
                metrics.sent(name, due.event)
                self._history.append(Notification(now, name, due.event, alert.kind, alert.subject, alert.text))
                LOG.info(
                    "alert.sent", receiver=name, event=due.event, kind=alert.kind, subject=alert.subject, said=said
                )
        await self._keep()

    def _begin_beat(self, policies: Policies) -> None:
        heartbeat = policies.alerts.heartbeat
        lane = self._lanes.setdefault(HEARTBEAT, _Lane())
        if heartbeat is None or not lane.is_free or time.monotonic() - self._beat_at < heartbeat.every - EVERY / 2:
            return
        self._beat_at = time.monotonic()

        async def run() -> None:
            try:
                await beat(heartbeat.url, _BEAT_TIMEOUT)
            except SendFailed as failed:
                self._failed(HEARTBEAT, lane, str(failed))
                lane.not_before = 0.0
            else:
                self._taken(HEARTBEAT)

        lane.task = asyncio.create_task(run())

    def _failed(self, name: str, lane: _Lane, why: str) -> None:
        before = self._memory.receivers.get(name, ReceiverState())
        failures = before.failures + 1
        since = self._now if before.failing_since is None else before.failing_since
        state = replace(before, failing_since=since, failures=failures, why=why)
        self._memory = replace(self._memory, receivers={**self._memory.receivers, name: state})
        lane.not_before = time.monotonic() + min(_MAX_WAIT, _FIRST_WAIT * 2 ** min(failures - 1, 10))
        metrics.failed(name)
        LOG.warning("alert.not_sent", receiver=name, reason=why, failures=failures)

    def _taken(self, name: str) -> None:
        self._memory = replace(
            self._memory, receivers={**self._memory.receivers, name: ReceiverState(taken_at=self._now)}
        )

    async def _end(self) -> None:
        """Lets another gateway go on at once."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None and not lane.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._stand_in.let_go()
        if self._leads:
            with contextlib.suppress(StoreAway, StoreRefused):
                await self._board.read(0.0, self._revision)
